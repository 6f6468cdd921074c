"""Sketches: their bounds, their merges, and the values that they count."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from broker.aggregation import sketches
from broker.aggregation.frames import dtype
from broker.domain.measures import states
from broker.domain.model import Measure, MeasureKind
from broker.domain.plan import Leaf
from broker.domain.values import DataType

RELATIVE_ERROR = 0.0318 * 1.5
"""Above two standard errors of lgK 12, for a fixed input."""
RANK_ERROR = 0.0133 * 1.5


def leaf(kind: MeasureKind, type: DataType, scale: int = 0, percentile: float = 0.5) -> Leaf:
    measure = Measure("m", kind, "x", type, scale, percentile=percentile)
    return Leaf(measure, states(measure))


def build(of: Leaf, values: Sequence[Any], weights: Sequence[int] | None = None) -> pl.Series:
    kind = dtype(of.measure.type, of.measure.scale)
    frame = pl.DataFrame(
        {
            "value": pl.Series(values, dtype=kind),
            "weight": pl.Series(weights or [1] * len(values), dtype=pl.Int64),
        }
    )
    return sketches.build(frame, [], of).get_column("m.sketch")


def distinct(type: DataType, values: Sequence[Any], scale: int = 0) -> int:
    of = leaf(MeasureKind.APPROX_DISTINCT, type, scale)
    (found,) = sketches.estimate(build(of, values), of).to_list()
    return int(found)


@pytest.mark.parametrize(
    ("type", "values", "count"),
    [
        (DataType.STRING, ["", "a", "é"], 3),
        (DataType.STRING, [""], 1),
        (DataType.BOOL, [True, False], 2),
        (DataType.INT64, [0, -1, 2**63 - 1, -(2**63)], 4),
        (DataType.DOUBLE, [0.5, float("nan"), float("inf")], 3),
        (DataType.DATE, [0, 19_000], 2),
        (DataType.TIMESTAMP, [0, 1_700_000_000_000_000], 2),
    ],
)
def test_every_type_is_counted(type: DataType, values: list[Any], count: int) -> None:
    assert distinct(type, values) == count


def test_a_decimal_is_the_same_value_at_every_scale() -> None:
    numbers = [Decimal("1.5"), Decimal(0), Decimal(-20), Decimal(100)]
    two, four = (
        build(leaf(MeasureKind.APPROX_DISTINCT, DataType.DECIMAL, scale), numbers) for scale in (2, 4)
    )
    none = build(
        leaf(MeasureKind.APPROX_DISTINCT, DataType.DECIMAL, 0), [Decimal(0), Decimal(-20), Decimal(100)]
    )
    united = sketches.unite(pl.Series([[two[0], four[0], none[0]]]), MeasureKind.APPROX_DISTINCT)
    assert sketches.estimate(united, leaf(MeasureKind.APPROX_DISTINCT, DataType.DECIMAL, 2)).to_list() == [4]


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_distinct_counts_stay_within_their_bound_however_they_are_merged(parts: int) -> None:
    of = leaf(MeasureKind.APPROX_DISTINCT, DataType.INT64)
    pieces = [build(of, range(part, 50_000, parts))[0] for part in range(parts)]
    overlapping = [*pieces, build(of, range(20_000))[0]]
    united = sketches.unite(pl.Series([overlapping]), MeasureKind.APPROX_DISTINCT)
    (found,) = sketches.estimate(united, of).to_list()
    assert found == pytest.approx(50_000, rel=RELATIVE_ERROR)


@pytest.mark.parametrize("percentile", [0.01, 0.5, 0.95])
@pytest.mark.parametrize("parts", [1, 5])
def test_percentiles_stay_within_their_bound_however_they_are_merged(percentile: float, parts: int) -> None:
    of = leaf(MeasureKind.APPROX_PERCENTILE, DataType.DOUBLE, percentile=percentile)
    count = 60_000
    pieces = [build(of, [float(v) for v in range(part, count, parts)])[0] for part in range(parts)]
    united = sketches.unite(pl.Series([pieces]), MeasureKind.APPROX_PERCENTILE)
    (found,) = sketches.estimate(united, of).to_list()
    assert found / count == pytest.approx(percentile, abs=RANK_ERROR)


def test_weights_count_a_value_as_often_as_it_was_seen() -> None:
    of = leaf(MeasureKind.APPROX_PERCENTILE, DataType.DOUBLE, percentile=0.9)
    light = build(of, [1.0, 2.0, 3.0], [2, 7, 1])
    assert sketches.estimate(light, of).to_list() == [2.0]
    heavy = build(of, [float(i) for i in range(10)], [1, 1, 1, 3_000_000, *[1] * 6])
    assert sketches.estimate(heavy, of).to_list() == [3.0]


def test_nothing_is_no_distinct_value_and_no_percentile() -> None:
    for kind, values, empty in (
        (MeasureKind.APPROX_DISTINCT, DataType.INT64, 0),
        (MeasureKind.APPROX_PERCENTILE, DataType.DOUBLE, None),
    ):
        of = leaf(kind, values)
        united = sketches.unite(pl.Series([[]], dtype=pl.List(pl.Binary)), kind)
        assert sketches.estimate(united, of).to_list() == [empty]
    of = leaf(MeasureKind.APPROX_PERCENTILE, DataType.DOUBLE)
    assert sketches.estimate(build(of, [float("nan")]), of).to_list() == [None]
