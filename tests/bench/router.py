"""How long it takes to choose rollups out of a thousand, and whether the choice is the cheapest that there is.

One decision is what an answer waits for: the rules for every rollup of the dataset, then the cheapest cover of the
range by those that pass, their segments of every month, the changes in them, and the tables. Questions differ in
everything: dimensions, measures, filter, range, grain and zone. The choice itself is compared with every other one in
random cases of up to six rollups, small enough to try everything.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.plan import Scan
from broker.domain.query import AbsoluteRange, AllOf, Condition, Filter, Grain, Operator
from broker.domain.rollup import Coverage, Rollup, Segment, SegmentFile, Span, Storage, micros
from broker.domain.timegrid import build
from broker.domain.values import DataType
from broker.pipeline.grids import GridCache
from broker.policy.rollups.candidates import Candidates
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.cover import cover
from broker.policy.rollups.stored import Memory
from broker.runtime import collector
from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section
from tests.support.rollup_covers import disagreement, random_case

ROLLUPS, DIMENSIONS, MEASURES, MONTHS = 1000, 20, 12, 36
START = datetime(2022, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
GRAINS = ((Grain.FIFTEEN_MINUTES, Grain.DAY, Grain.MONTH), (Grain.HOUR, Grain.DAY), (Grain.DAY,))
BATCH = 100


def main() -> None:
    harness.run("router", __doc__, measure)


@dataclass
class World:
    """A dataset with its rollups, and what is built of them."""

    dataset: Dataset
    coverage: dict[str, Coverage]

    @classmethod
    def random(cls, rng: Random) -> World:
        names = [f"d{i}" for i in range(DIMENSIONS)]
        dimensions = {name: Dimension(name, f"f.{name}", DataType.STRING, ("f",)) for name in names}
        dimensions["at"] = Dimension("at", "f.at", DataType.TIMESTAMP, ("f",), time=True)
        measures = {
            f"m{i}": Measure(f"m{i}", MeasureKind.SUM, f"f.m{i}", tables=("f",)) for i in range(MEASURES)
        }
        rollups = {
            name: rollup(rng, name, names, list(measures)) for name in map("r{}".format, range(ROLLUPS))
        }
        dataset = Dataset("f", "public.f", dimensions, measures, default_time="at", rollups=rollups)
        changes = random_changes(rng)
        return cls(dataset, {each.name: built(rng, each, changes) for each in rollups.values()})

    def scan(self, rng: Random, grids: GridCache) -> Scan:
        """A question: one to three dimensions and measures, mostly a filter, a day to two years by a fitting grain."""
        dataset = self.dataset
        own = rng.sample([n for n in dataset.dimensions if n != "at"], rng.choice((1, 1, 2, 3)))
        measures = rng.sample(list(dataset.measures), rng.choice((1, 1, 2)))
        days = rng.choice((1, 7, 30, 90, 365, 730))
        start = START + timedelta(minutes=15 * rng.randrange(4 * 24 * (MONTHS * 30 - days)))
        bounds = AbsoluteRange(start, start + timedelta(days=days))
        grain = {1: Grain.HOUR, 7: Grain.HOUR, 30: Grain.DAY, 90: Grain.DAY}.get(days, Grain.MONTH)
        return Scan(
            dataset, tuple(dataset.dimensions[n] for n in own), tuple(dataset.measures[n] for n in measures),
            dataset.dimensions["at"], bounds, grids(bounds, grain, rng.choice(ZONES)), some_filter(rng, own),
        )  # fmt: skip


def rollup(rng: Random, name: str, dimensions: list[str], measures: list[str]) -> Rollup:
    kept = Condition(rng.choice(dimensions), Operator.EQ, ("a",)) if rng.random() < 0.1 else None
    return Rollup(
        name, "f", "at", tuple(rng.sample(dimensions, rng.randint(2, 8))),
        tuple(rng.sample(measures, rng.randint(1, 8))), rng.choice(GRAINS), filter=kept,
        storage=rng.choice((Storage.SEGMENTS, Storage.SEGMENTS, Storage.TABLE)),
    )  # fmt: skip


def some_filter(rng: Random, dimensions: list[str]) -> Filter | None:
    values = tuple(rng.choice("abcdefgh") for _ in range(3))
    parts: list[Filter] = [Condition(dimensions[0], Operator.IN, values)]
    if len(dimensions) > 1:
        parts.append(Condition(dimensions[1], Operator.NE, ("x",)))
    return AllOf(tuple(parts)) if rng.random() < 0.7 else None


def months() -> list[Span]:
    starts = build(AbsoluteRange(START, START + timedelta(days=31 * MONTHS)), Grain.MONTH, "UTC").starts
    return [Span(micros(a), micros(b)) for a, b in pairwise(starts)][:MONTHS]


def random_changes(rng: Random) -> tuple[Span, ...]:
    """Buckets of the source that have changed: all rollups see the same."""
    width = 900_000_000
    first = micros(START) // width
    found = sorted(first + rng.randrange(MONTHS * 30 * 96) for _ in range(6))
    return tuple(Span(at * width, (at + 1) * width) for at in dict.fromkeys(found))


def built(rng: Random, own: Rollup, changes: tuple[Span, ...]) -> Coverage:
    """Nearly all months, some only the last ones."""
    first, missing = rng.choice((0, 0, 12)), rng.choice((None,) * 19 + (rng.randrange(MONTHS),))
    spans, rows = months(), 10 ** rng.randint(3, 6)
    segments = tuple(
        Segment(
            i, span, 1, START, rows, rows * 50,
            files=tuple(SegmentFile(g, rows // 10**k + 1, 0, "") for k, g in enumerate(own.grains)),
        )
        for i, span in enumerate(spans) if i >= first and i != missing
    )  # fmt: skip
    return Coverage(own.name, segments, changes)


def decide(world: World, candidates: Candidates, memory: Memory, scan: Scan) -> int:
    """One decision; how many rollups passed the rules."""
    checked = candidates.check(scan)
    cover(
        scan, checked.accepted, {r.name: world.coverage[r.name] for r in checked.accepted},
        Costs.predicted(2.0), excluded=checked.rejected, memory=memory, asked=checked.asked("at"),
    )  # fmt: skip
    return len(checked.accepted)


def measure(options: Options) -> Report:
    rng, grids = Random(1), GridCache()
    world = World.random(rng)
    candidates, memory = Candidates(world.dataset), Memory()
    wall: list[float] = []
    cpu: list[float] = []
    passed: list[float] = []
    for _ in range(20 if options.quick else 60):
        scans = [world.scan(rng, grids) for _ in range(BATCH)]
        collector.settle()
        for i, scan in enumerate(scans):
            clock = time.perf_counter_ns if i % 2 else time.thread_time_ns
            began = clock()
            passed.append(decide(world, candidates, memory, scan))
            (wall if i % 2 else cpu).append((clock() - began) / 1e6)
        gc.unfreeze()
    cases = 3_000 if options.quick else 10_000
    wrong = [text for seed in range(cases) if (text := disagreed(seed)) is not None]
    metrics = {
        "p99_ms": harness.percentile(wall, 99),
        "median_ms": harness.median(wall),
        "cpu_p99_ms": harness.percentile(cpu, 99),
        "oracle_disagreements": float(len(wrong)),
        "oracle_cases": float(cases),
    }
    rows = [
        (clock, *(harness.percentile(values, percent) for percent in (50, 90, 99, 99.9)))
        for clock, values in (("wall", wall), ("cpu", cpu))
    ]
    spread = [harness.percentile(passed, percent) for percent in (10, 50, 90, 100)]
    sections = [
        Section(
            f"one decision over {ROLLUPS:,} rollups",
            ("clock", "p50_ms", "p90_ms", "p99_ms", "p99.9_ms"),
            rows,
        ),
        Section("rollups that pass the rules", ("p10", "p50", "p90", "most"), [spread]),
    ]
    if wrong:
        sections.append(Section("not the cheapest", ("case",), [(text,) for text in wrong[:10]]))
    return Report(metrics, {"p99_ms": Goal("<=", 1.0), "oracle_disagreements": Goal("<=", 0.0)}, sections)


def disagreed(seed: int) -> str | None:
    case = random_case(Random(seed))
    found = cover(
        case.scan, case.rollups, case.coverage, case.costs,
        lateness_allowed=case.lateness_allowed, require=case.require, live=case.live,
    )  # fmt: skip
    text = disagreement(case, found)
    return None if text is None else f"{seed}: {text}"
