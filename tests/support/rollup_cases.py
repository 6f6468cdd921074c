"""Random ranges with rollups that hold some of them, in which changes were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.plan import Scan
from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import Coverage, Rollup, Segment, SegmentFile, Span, Storage, micros
from broker.domain.timegrid import build
from broker.domain.values import DataType
from broker.policy.rollups.costs import Costs

HOUR, DAY = 3_600_000_000, 86_400_000_000
START = datetime(2024, 3, 4, tzinfo=UTC)
AT = Dimension("at", "f.at", DataType.TIMESTAMP, ("f",), time=True)
KIND = Dimension("kind", "f.kind", DataType.STRING, ("f",))
ROWS = Measure("rows", MeasureKind.COUNT, tables=("f",))
EAST = "Asia/Kathmandu"
"""Its days begin a quarter past six in the evening, inside those of UTC and inside hours."""
WIDTHS = {Grain.FIFTEEN_MINUTES: HOUR // 4, Grain.HOUR: HOUR, Grain.DAY: DAY}


@dataclass(frozen=True)
class Case:
    """A scan with what may answer it."""

    scan: Scan
    rollups: tuple[Rollup, ...]
    coverage: Mapping[str, Coverage]
    costs: Costs
    require: bool
    live: bool
    lateness_allowed: float | None


def floor(rollup: Rollup, at: int) -> int:
    """Where the base bucket begins that holds an instant."""
    shift = 23 * HOUR // 4 if rollup.zone == EAST else 0
    return at - (at + shift) % WIDTHS[rollup.base]


def any_case(rng: Random, *, most: int = 6) -> Case:
    """A range of a few days or hours, up to ``most`` rollups with some segments each, and changes in them."""
    step = rng.choice((HOUR, 6 * HOUR, DAY))
    steps = rng.randint(1, 8)
    lo = micros(START) + rng.choice((0, HOUR // 3))
    hi = lo + steps * step + rng.choice((0, HOUR // 2))
    bounds = AbsoluteRange(*(START + timedelta(microseconds=at - micros(START)) for at in (lo, hi)))
    grid = rng.choice((None, build(bounds, Grain.DAY, "UTC")))
    apart = grid is None and rng.random() < 0.5  # days begin at different times, and nothing is merged ahead
    rollups, coverage = {}, {}
    for i in range(rng.choice((1, 2, 3, most, most))):
        name = f"r{i}"
        base = rng.choice((Grain.FIFTEEN_MINUTES, Grain.HOUR, Grain.DAY))
        grains = (base,) if base is Grain.DAY or apart or rng.random() < 0.5 else (base, Grain.DAY)
        storage = rng.choice((Storage.SEGMENTS, Storage.TABLE))
        zone = rng.choice(("UTC", EAST)) if apart and base is Grain.DAY else "UTC"
        rollups[name] = Rollup(name, "f", "at", ("kind",), ("rows",), grains, zone=zone, storage=storage)
        coverage[name] = random_coverage(rng, rollups[name], lo - lo % DAY, step, steps)
    dataset = Dataset("f", "public.f", {"at": AT, "kind": KIND}, {"rows": ROWS}, rollups=rollups)
    costs = Costs(
        live_seconds=rng.choice((0.001, 0.01, 0.05, 1.0)),
        max_live_spans=rng.choice((1, 2, 8)),
        piece=rng.choice((0.0, 5e-5)),
        segments=rng.choice((1e-3, 2e-3)),
    )
    scan = Scan(dataset, (KIND,), (ROWS,), AT, bounds, grid)
    return Case(
        scan, tuple(rollups.values()), coverage, costs,
        require=rng.random() < 0.2, live=rng.random() < 0.95, lateness_allowed=rng.choice((None, None, 60.0)),
    )  # fmt: skip


def random_coverage(rng: Random, rollup: Rollup, start: int, step: int, steps: int) -> Coverage:
    """Some of the partitions, and changes in them; both on the step's multiples, changes of any width."""
    as_of = START + timedelta(days=30)
    segments: list[Segment] = []
    at, end = start, start + (steps + 1) * step
    while at < end:
        after = at + step * rng.choice((1, 1, 2, 3))
        if rng.random() < 0.75:
            base = rng.choice((10, 1000, 100_000))
            files = tuple(
                SegmentFile(grain, max(1, base // 8**i), 100, "") for i, grain in enumerate(rollup.grains)
            )
            sealed = rng.random() < 0.02
            segments.append(Segment(len(segments), Span(at, after), 1, as_of, base, 100, sealed, files))
        at = after
    dirty: list[Span] = []
    at = start
    while rng.random() < 0.35 and at < end:
        at += rng.randint(1, 3 * step)
        dirty.append(Span(at, at + rng.choice((1, HOUR // 4, step))))
        at = dirty[-1].hi + 1
    lateness = rng.choice((None, None, None, 0.0, 30.0, 3600.0))
    seals = tuple(segment.span for segment in segments if segment.sealed)
    return Coverage(rollup.name, tuple(segments), tuple(dirty), lateness=lateness, sealed=seals)
