"""A rollup of the facts in files, and blocks of it beside live states."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from broker.aggregation import segment_write
from broker.domain.measures import UNMERGEABLE, order_keys, states
from broker.domain.model import Dimension, MeasureKind
from broker.domain.plan import Leaf, LocalFile, Scan, ScanResult, SegmentBlock
from broker.domain.query import AbsoluteRange, Filter, Grain
from broker.domain.rollup import Span, instant, micros
from broker.domain.segment import BuiltFiles, SegmentBuild
from broker.domain.timegrid import build
from tests.unit.aggregation.facts import DATASET, Fact
from tests.unit.aggregation.source import result

STORED: tuple[Dimension, ...] = (DATASET.dimensions["name"], DATASET.dimensions["flag"])
LEAVES = tuple(
    Leaf(measure, states(measure, order_keys(DATASET)))
    for measure in DATASET.measures.values()
    if measure.kind not in UNMERGEABLE and measure.kind is not MeasureKind.RATIO
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rollup is cut: partitions of a calendar grain in a zone, and the grains of its files."""

    partition: Grain
    zone: str
    grains: tuple[Grain, ...]

    def partitions(self, bounds: AbsoluteRange) -> list[Span]:
        """The partitions that meet the bounds."""
        grid = build(bounds, self.partition, self.zone)
        ends = [micros(at) for at in (*grid.starts, grid.end)]
        return [Span(lo, hi) for lo, hi in pairwise(ends)]


def at(moment: int) -> datetime:
    """The instant, which is no end of time."""
    found = instant(moment)
    assert found is not None
    return found


def within(facts: Sequence[Fact], spans: Sequence[Span]) -> list[Fact]:
    """The facts of some spans."""
    return [fact for fact in facts if any(lo <= micros(fact.at) < hi for lo, hi in spans)]


def made(
    facts: Sequence[Fact],
    span: Span,
    layout: Layout,
    *,
    base: bytes | str = b"",
    replaced: tuple[Span, ...] = (),
    csv: bool = False,
) -> BuiltFiles:
    """A partition of the facts, built from nothing or refreshed."""
    wanted = SegmentBuild(
        span,
        build(AbsoluteRange(at(span.lo), at(span.hi)), layout.grains[0], "UTC"),
        STORED,
        LEAVES,
        layout.grains,
        layout.zone,
        base,
        replaced,
    )
    read = within(facts, [span])
    read = within(read, replaced) if base else read
    return segment_write.build(scanned(read, wanted, csv=csv), wanted)


def scanned(facts: list[Fact], wanted: SegmentBuild, *, csv: bool = False) -> ScanResult:
    """What the scan of a partition returns."""
    measures = tuple(leaf.measure for leaf in wanted.leaves)
    scan = Scan(DATASET, wanted.stored, measures, DATASET.dimensions["at"], grid=wanted.grid)
    return result(wanted.leaves, scan, facts, (0, 1) if csv else (0,), csv=csv)


def kept(built: BuiltFiles, span: Span, layout: Layout, directory: Path) -> list[LocalFile]:
    """The files of a partition, written down."""
    found = []
    for file, data in zip(built.files, built.data, strict=True):
        path = directory / f"{span.lo}.{file.grain.value}.{file.sha256[:16]}.arrow"
        path.write_bytes(data)
        found.append(LocalFile(str(path), file.grain, layout.zone, span, file.sha256))
    return found


def block(
    files: Sequence[LocalFile],
    spans: Sequence[Span],
    scan: Scan,
    leaves: Sequence[Leaf],
    filter: Filter | None = None,
) -> SegmentBlock:
    """What the pipeline sends for a scan."""
    starts = [] if scan.grid is None else [micros(start) for start in scan.grid.starts]
    return SegmentBlock(
        tuple(files),
        tuple(spans),
        STORED,
        tuple(dimension.name for dimension in scan.dimensions),
        tuple(leaves),
        (),
        struct.pack(f"<{len(starts)}q", *starts),
        filter,
    )


def hybrid(live: ScanResult, rolled: SegmentBlock) -> ScanResult:
    """Live states with those of a rollup beside them."""
    return replace(live, grouped=(*live.grouped, rolled))
