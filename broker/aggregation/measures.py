"""The measure algebra on Polars expressions: per kind, how partial states merge and how they become a value.

Columns of states are named ``{measure}.{state}``, of finished values ``={measure}``, so that neither meets a key. A
null state is the identity of every merge: a group that a block knows nothing of leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from broker.domain.measures import SKETCHES, UNMERGEABLE
from broker.domain.model import MeasureKind
from broker.domain.plan import Leaf, Output, state_name
from broker.domain.values import DataType

COUNT_LIKE = frozenset({MeasureKind.COUNT, MeasureKind.APPROX_DISTINCT, MeasureKind.EXACT_DISTINCT})
"""Kinds whose value is 0, not null, where there are no rows."""


def value_name(measure: str) -> str:
    """Column that holds a finished value."""
    return f"={measure}"


def state_columns(leaf: Leaf) -> tuple[str, ...]:
    """The columns of a leaf's states, in order."""
    return tuple(state_name(leaf.measure.name, state.name) for state in leaf.states)


def summed(leaf: Leaf) -> tuple[str, ...]:
    """The columns of integers and decimals that a merge adds up, which may overflow."""
    wanted = {MeasureKind.COUNT: "n", MeasureKind.SUM: "s", MeasureKind.AVG: "s"}.get(leaf.measure.kind, "")
    exact = (DataType.INT64, DataType.DECIMAL)
    return tuple(
        name
        for name, state in zip(state_columns(leaf), leaf.states, strict=True)
        if state.name == wanted and state.type in exact
    )


def merge(leaf: Leaf) -> list[pl.Expr]:
    """Aggregations of the state columns over the rows of one group; sketches become lists of sketches."""
    columns = state_columns(leaf)
    match leaf.measure.kind:
        case MeasureKind.COUNT:
            return [pl.col(columns[0]).sum()]
        case MeasureKind.SUM:
            return [_sum(columns[0])]
        case MeasureKind.MIN:
            return [
                pl.col(columns[0]).min()
            ]  # skips NaN unless there is nothing else, as PostgreSQL orders it last
        case MeasureKind.MAX if leaf.states[0].type is DataType.DOUBLE:
            return [pl.col(columns[0]).nan_max()]
        case MeasureKind.MAX:
            return [pl.col(columns[0]).max()]
        case MeasureKind.AVG:
            return [pl.col(columns[0]).sum(), _sum(columns[1])]
        case MeasureKind.VARIANCE | MeasureKind.STDDEV:
            return _moments(*columns)
        case MeasureKind.FIRST | MeasureKind.LAST:
            return _extreme(columns, last=leaf.measure.kind is MeasureKind.LAST)
        case kind if kind in SKETCHES:
            return [pl.col(columns[0]).drop_nulls()]
        case kind if kind in UNMERGEABLE:
            return [pl.col(columns[0]).drop_nulls().first()]
        case kind:
            raise AssertionError(f"{kind} owns no states")


def finish(leaf: Leaf) -> pl.Expr:
    """The value of a merged leaf as ``={measure}``; sketches have been estimated by then."""
    name, kind = leaf.measure.name, leaf.measure.kind
    columns = [pl.col(column) for column in state_columns(leaf)]
    match kind:
        case MeasureKind.AVG:
            count, total = columns
            value = total.cast(pl.Float64) / _positive(count)
        case MeasureKind.VARIANCE | MeasureKind.STDDEV:
            count, _, squares = columns
            value = squares / _positive(count - 1)
            value = value.sqrt() if kind is MeasureKind.STDDEV else value
        case _:
            value = columns[-1]
    return (value.fill_null(0) if kind in COUNT_LIKE else value).alias(value_name(name))


def ratio(output: Output) -> pl.Expr:
    """The quotient of two finished values as doubles, null when the denominator is 0 or either is null."""
    assert output.ratio is not None
    numerator, denominator = (pl.col(value_name(name)).cast(pl.Float64) for name in output.ratio)
    quotient = pl.when(denominator != 0).then(numerator / denominator)
    return quotient.alias(value_name(output.column.name))


def count_like(leaves: Sequence[Leaf]) -> frozenset[str]:
    """Names of the measures whose value is 0 where there are no rows."""
    return frozenset(leaf.measure.name for leaf in leaves if leaf.measure.kind in COUNT_LIKE)


def _sum(column: str) -> pl.Expr:
    return pl.when(pl.col(column).count() > 0).then(pl.col(column).sum())


def _positive(count: pl.Expr) -> pl.Expr:
    return pl.when(count > 0).then(count).cast(pl.Float64)


def _moments(count: str, mean: str, squares: str) -> list[pl.Expr]:
    """Counts, means and sums of squared deviations of many parts at once.

    Chan, Golub, LeVeque 1979 for two parts; over all parts of a group it reads ``M2 = sum(m2) + sum(n (mean - M)^2)``.
    Means are taken from the first part's, so that a lone part and equal means stay what they are.
    """
    n, m, m2 = pl.col(count), pl.col(mean), pl.col(squares)
    some = n.sum() > 0
    origin = m.drop_nulls().first()
    offset = (n * (m - origin)).sum() / n.sum()
    spread = (n * (m - origin - offset) ** 2).sum()
    return [
        n.sum(),
        pl.when(some).then(origin + offset).alias(mean),
        pl.when(some).then(m2.sum() + spread).alias(squares),
    ]


def _extreme(columns: Sequence[str], *, last: bool) -> list[pl.Expr]:
    """The state with the least or greatest order keys among those that have a value; null keys come last either way."""
    *keys, value = columns
    known = pl.col(value).is_not_null()
    order = [pl.col(key).filter(known) for key in keys]

    def chosen(column: str) -> pl.Expr:
        rows = pl.col(column).filter(known)
        return (rows.sort_by(order, descending=last, nulls_last=True) if order else rows).first()

    return [chosen(column) for column in columns]
