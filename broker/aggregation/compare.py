"""Compares two answers to one question state by state: what a rollup said with what its source says.

States are compared before they are finished: more is seen there than in a ratio or behind a limit. What is exact must
be equal. Doubles may differ by what the order of additions can change: 1e-9 of their size, or 1e-12 of the largest in
their column, where large numbers cancel. Of sketches, distinct counts may differ by their bound, of percentiles only
the number of values is compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from datasketches import kll_doubles_sketch

from broker.aggregation import gather, kernels, sketches
from broker.aggregation.measures import state_columns
from broker.domain.measures import HLL_RELATIVE_ERROR, SKETCHES, State
from broker.domain.model import MeasureKind
from broker.domain.plan import Finish, Leaf, ScanResult
from broker.domain.segment import Comparison
from broker.domain.values import DataType

_RELATIVE, _OF_LARGEST = 1e-9, 1e-12
_ADDED = frozenset({MeasureKind.SUM, MeasureKind.AVG, MeasureKind.VARIANCE, MeasureKind.STDDEV})
_THEIRS = "~"
_HERE = "!"
_SHOWN = 200


def compare(left: Sequence[ScanResult], right: Sequence[ScanResult], finish: Finish) -> Comparison:
    """Differences between all groups of two answers, over all of their scans.

    Raises:
        BrokerError: STORE_REJECTED for values out of range, or for a segment's file that cannot be read.
    """
    found = [
        _compared(mine, theirs, finish, leaves)
        for mine, theirs, leaves in zip(left, right, [finish.leaves, kernels.compared(finish)], strict=False)
    ]
    return Comparison(
        sum(one.rows for one in found),
        sum(one.differing for one in found),
        tuple(dict.fromkeys(column for one in found for column in one.columns)),
        next((one.example for one in found if one.example), ""),
    )


def _compared(left: ScanResult, right: ScanResult, finish: Finish, leaves: Sequence[Leaf]) -> Comparison:
    keys = gather.typed_keys(finish)
    names = [name for name, _, _ in keys]
    mine, theirs = (_marked(gather.merged(result, keys, leaves)) for result in (left, right))
    if names:
        rows = mine.join(theirs, on=names, how="full", nulls_equal=True, coalesce=True, suffix=_THEIRS)
    else:
        rows = mine.hstack(theirs.rename(lambda name: name + _THEIRS))
    tests = {"": [pl.col(_HERE).is_null() | pl.col(_HERE + _THEIRS).is_null()]}
    for leaf in leaves:
        rows = _measured(rows, leaf)
        tests[leaf.measure.name] = [
            _differs(*one, leaf) for one in zip(state_columns(leaf), leaf.states, strict=True)
        ]
    differs = rows.select(pl.any_horizontal(test).alias(name) for name, test in tests.items())
    wrong = differs.select(pl.any_horizontal(pl.all())).to_series()
    shown = rows.filter(wrong).head(1).rows(named=True)
    return Comparison(
        rows.height,
        int(wrong.sum()),
        tuple(name for name in tests if name and differs.get_column(name).any()),
        str(shown[0])[:_SHOWN] if shown else "",
    )


def _marked(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.lit(value=True).alias(_HERE))


def _measured(rows: pl.DataFrame, leaf: Leaf) -> pl.DataFrame:
    """The rows with what can be compared of sketches: estimated counts of distinct values, numbers of values."""
    if leaf.measure.kind not in SKETCHES:
        return rows
    (column,) = state_columns(leaf)
    both = [rows.get_column(name) for name in (column, column + _THEIRS)]
    if leaf.measure.kind is MeasureKind.APPROX_DISTINCT:
        return rows.with_columns(sketches.estimate(sketch, leaf).cast(pl.Float64) for sketch in both)
    counts = [[0 if s is None else kll_doubles_sketch.deserialize(s).n for s in sketch] for sketch in both]
    return rows.with_columns(
        pl.Series(sketch.name, found, pl.Int64()) for sketch, found in zip(both, counts, strict=True)
    )


def _differs(column: str, state: State, leaf: Leaf) -> pl.Expr:
    mine, theirs = pl.col(column), pl.col(column + _THEIRS)
    kind = leaf.measure.kind
    if state.name == "n":
        return mine.fill_null(0) != theirs.fill_null(0)
    if kind is MeasureKind.APPROX_DISTINCT:
        return _apart(mine, theirs, 2 * HLL_RELATIVE_ERROR, pl.lit(0.0))
    if state.type is not DataType.DOUBLE or kind not in _ADDED:
        return mine.ne_missing(theirs)
    size = mine.abs().max()
    if state.name == "m2":
        count, mean, _ = map(pl.col, state_columns(leaf))
        size = pl.max_horizontal(size, count * mean**2)
    return _apart(mine, theirs, _RELATIVE, _OF_LARGEST * size)


def _apart(mine: pl.Expr, theirs: pl.Expr, relative: float, absolute: pl.Expr) -> pl.Expr:
    """Whether two numbers differ by more than a share of the larger one and something absolute."""
    near = (mine - theirs).abs() <= relative * pl.max_horizontal(mine.abs(), theirs.abs()) + absolute
    finite = mine.is_finite() & theirs.is_finite()
    return mine.ne_missing(theirs) & ~(near & finite).fill_null(value=False)
