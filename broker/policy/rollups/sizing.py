"""How large a rollup will be and what it will cost, from estimates of distinct values: good for comparing rollups.

Values of dimensions are taken to be independent of each other, which makes a rollup look larger than it will be; the
rows of the source bound it. Of ``k`` cells into which ``n`` rows fall at random, ``k (1 - (1 - 1/k)^n)`` hold one or
more (Cardenas 1975).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.domain.measures import order_keys, states
from broker.domain.model import Dataset, MeasureKind
from broker.domain.query import Grain
from broker.domain.rollup import Rollup, Span, Tracking
from broker.domain.values import DataType

_SECOND = 1_000_000
WIDTHS = {
    Grain.MINUTE: 60 * _SECOND,
    Grain.FIFTEEN_MINUTES: 900 * _SECOND,
    Grain.HOUR: 3600 * _SECOND,
    Grain.DAY: 86400 * _SECOND,
    Grain.WEEK: 7 * 86400 * _SECOND,
    Grain.MONTH: round(30.44 * 86400) * _SECOND,
    Grain.QUARTER: round(91.31 * 86400) * _SECOND,
    Grain.YEAR: round(365.24 * 86400) * _SECOND,
}
"""Mean widths in microseconds."""
_BYTES = {DataType.DECIMAL: 16, DataType.STRING: 8, DataType.BOOL: 1, DataType.DATE: 4}
_HLL = (40.0, 4.0, 2088.0)
_KLL = (32.0, 8.0, 2600.0)
"""Bytes of a sketch: of an empty one, for each value, and at most."""
READ_ROW, GROUP_ROW, STORED_ROW, SKETCHED_VALUE = 1e-6, 3e-7, 2e-6, 3e-7
"""Seconds of a build: for a row read, each of its measures, a row stored, a value that goes into a sketch."""
MARKED_STATEMENT, MARKED_ROW = 1e-4, 1e-6
"""Seconds that triggers add to a statement that writes, and to each row of it."""
UNKNOWN_DISTINCT = 100.0


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a dataset's rows: how many there are, between which instants, distinct values by dimension."""

    rows: float
    extent: Span
    distinct: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Size:
    """Estimated rows by grain, base first, and bytes of all of them.

    ``build_seconds`` is for all of it; ``write_seconds`` is what 1,000 rows, written by one statement, take longer.
    """

    rows: Mapping[Grain, float]
    byte_count: float
    build_seconds: float
    write_seconds: float

    @property
    def base_rows(self) -> float:
        """Rows of the base grain."""
        return next(iter(self.rows.values()))


def size_of(dataset: Dataset, rollup: Rollup, facts: SourceFacts) -> Size:
    """The estimate for a rollup of segments."""
    rows = {grain: _rows(rollup, grain, facts) for grain in rollup.grains}
    byte_count = sum(
        count * _row_bytes(dataset, rollup, facts.rows / max(count, 1.0)) for count in rows.values()
    )
    kinds = [dataset.measures[name].kind for name in rollup.measures]
    sketched = sum(kind in (MeasureKind.APPROX_DISTINCT, MeasureKind.APPROX_PERCENTILE) for kind in kinds)
    build = facts.rows * (READ_ROW + GROUP_ROW * len(kinds) + SKETCHED_VALUE * sketched)
    build += STORED_ROW * sum(rows.values())
    write = MARKED_STATEMENT + 1000 * MARKED_ROW if rollup.tracking is Tracking.TRIGGERS else 0.0
    return Size(rows, byte_count, build, write)


def occupied(cells: float, rows: float) -> float:
    """How many of the cells hold a row."""
    if cells <= 1.0 or rows <= 1.0:
        return min(cells, rows)
    return min(rows, -cells * math.expm1(rows * math.log1p(-1.0 / cells)))


def _rows(rollup: Rollup, grain: Grain, facts: SourceFacts) -> float:
    buckets = max(1.0, (facts.extent.hi - facts.extent.lo) / WIDTHS[grain])
    cells = min(buckets, facts.distinct.get(rollup.time, buckets))
    for name in rollup.dimensions:
        cells *= max(1.0, facts.distinct.get(name, UNKNOWN_DISTINCT))
    return max(1.0, occupied(cells, facts.rows))


def _row_bytes(dataset: Dataset, rollup: Rollup, values: float) -> float:
    """Bytes of a stored row that stands for so many values."""
    total = 8.0 + 4.0 * len(rollup.dimensions)
    keys = order_keys(dataset)
    for name in rollup.measures:
        measure = dataset.measures[name]
        match measure.kind:
            case MeasureKind.APPROX_DISTINCT:
                total += _sketch_bytes(values, *_HLL)
            case MeasureKind.APPROX_PERCENTILE:
                total += _sketch_bytes(values, *_KLL)
            case _:
                total += sum(_BYTES.get(state.type, 8) for state in states(measure, keys))
    return total


def _sketch_bytes(values: float, empty: float, each: float, most: float) -> float:
    return min(most, empty + each * values)
