"""Merges partial states by key and finishes them, and never lets a sum wrap around.

Polars adds 64-bit integers and 128-bit decimals without a look at overflow inside groups. A bound over the whole column
tells whether any sum could leave the type's range; only then is the exact sum checked, which is slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import polars as pl

from broker.aggregation import measures, sketches
from broker.aggregation.frames import DECIMAL_DIGITS
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.measures import SKETCHES, UNMERGEABLE
from broker.domain.plan import Leaf, Output

_INT_BOUND = 2.0**63 * 0.999
_DECIMAL_BOUND = 10.0**DECIMAL_DIGITS * 0.999
_WRAPS = 1.5e38
"""Below 2**127 by more than a sum of doubles can be wrong: a decimal sum whose size is less has not wrapped."""


def merge(states: pl.DataFrame, keys: Sequence[str], leaves: Sequence[Leaf]) -> pl.DataFrame:
    """One row of states per key, in order of first appearance; without keys exactly one row.

    Raises:
        BrokerError: STORE_REJECTED when a sum leaves the range of its type.
    """
    risky = [c for leaf in leaves for c in measures.summed(leaf) if _may_overflow(states.get_column(c))]
    aggregations = [expression for leaf in leaves for expression in measures.merge(leaf)]
    guards = [_guard(states.get_column(c)).alias(f"!{c}") for c in risky]
    single = [leaf for leaf in leaves if leaf.measure.kind in UNMERGEABLE]
    guards += [pl.col(c).count().alias(f"!{c}") for leaf in single for c in measures.state_columns(leaf)]
    try:
        merged = _grouped(states, keys, leaves, [*aggregations, *guards])
    except pl.exceptions.ComputeError as error:
        if not risky:
            raise
        raise out_of_range(risky[0]) from error  # sums outside of groups are checked by Polars itself
    for column in risky:
        _check(merged.get_column(column), merged.get_column(f"!{column}"))
    for leaf in single:
        for column in measures.state_columns(leaf):
            if merged.select((pl.col(f"!{column}") > 1).any()).item():
                raise ValueError(f"partial states of {column!r} do not merge")
    found = [merged.get_column(key) for key in keys]
    for leaf in leaves:
        columns = [merged.get_column(column) for column in measures.state_columns(leaf)]
        found += (
            [sketches.unite(c, leaf.measure.kind) for c in columns]
            if leaf.measure.kind in SKETCHES
            else columns
        )
    return pl.DataFrame(found)


def finish(
    states: pl.DataFrame, keys: Sequence[str], leaves: Sequence[Leaf], outputs: Sequence[Output]
) -> pl.DataFrame:
    """The keys and a column ``={measure}`` for every leaf and output; rows stay in order."""
    estimates = [
        sketches.estimate(states.get_column(column), leaf)
        for leaf in leaves
        if leaf.measure.kind in SKETCHES
        for column in measures.state_columns(leaf)
    ]
    values = states.with_columns(estimates) if estimates else states
    finished = values.select(*keys, *(measures.finish(leaf) for leaf in leaves))
    ratios = [measures.ratio(output) for output in outputs if output.ratio is not None]
    return finished.with_columns(ratios) if ratios else finished


def _grouped(
    states: pl.DataFrame, keys: Sequence[str], leaves: Sequence[Leaf], aggregations: Sequence[pl.Expr]
) -> pl.DataFrame:
    if keys:
        return states.group_by(keys, maintain_order=True).agg(aggregations)
    lists = {c for leaf in leaves if leaf.measure.kind in SKETCHES for c in measures.state_columns(leaf)}
    return states.select(e.implode() if e.meta.output_name() in lists else e for e in aggregations)


def totals(values: pl.Series, keys: pl.DataFrame) -> pl.Series:
    """For every row the sum over the rows with equal keys, null counting as nothing; integers in 128 bits.

    Raises:
        BrokerError: STORE_REJECTED when a sum of decimals leaves their range.
    """
    column = values.name
    frame = pl.DataFrame([values, *keys.get_columns()])
    wide = pl.col(column).cast(pl.Int128) if values.dtype == pl.Int64 else pl.col(column)
    sums = [wide.sum(), _guard(values).alias("!")]
    try:
        summed = frame.with_columns(e.over(keys.columns) if keys.width else e for e in sums)
    except pl.exceptions.ComputeError as error:
        raise out_of_range(column) from error
    if isinstance(values.dtype, pl.Decimal) and _may_overflow(values):
        _check(summed.get_column(column), summed.get_column("!"))
    return summed.get_column(column)


def minus(left: pl.Series, right: pl.Series) -> pl.Series:
    """The difference in the type of both.

    Raises:
        BrokerError: STORE_REJECTED when one leaves the range of the type.
    """
    if left.dtype != pl.Int64:
        try:
            return left - right
        except pl.exceptions.ComputeError as error:
            raise out_of_range(left.name) from error
    wide = left.cast(pl.Int128) - right.cast(pl.Int128)
    if not wide.is_between(-(2**63), 2**63 - 1).all():
        raise out_of_range(left.name)
    return wide.cast(pl.Int64)


def out_of_range(column: str) -> BrokerError:
    """The error for a sum or difference that its type cannot hold."""
    name = column.rpartition(".")[0] or column.lstrip("=")
    text = (
        f"The value of {name!r} leaves the range of its type (64-bit integers, decimals of {DECIMAL_DIGITS} digits). "
        "Declare the measure as decimal or double, or narrow the query."
    )
    return BrokerError(ErrorReason.STORE_REJECTED, text, metadata={"measure": name})


def _may_overflow(column: pl.Series) -> bool:
    bound = _DECIMAL_BOUND / 10 ** _scale(column) if isinstance(column.dtype, pl.Decimal) else _INT_BOUND
    ends = [float(end) for end in (column.min(), column.max()) if isinstance(end, int | Decimal)]
    return any(abs(end) * len(column) >= bound for end in ends)


def _scale(column: pl.Series) -> int:
    assert isinstance(column.dtype, pl.Decimal)
    return column.dtype.scale


def _guard(column: pl.Series) -> pl.Expr:
    """A second sum in a type that holds it: exact for integers, approximate for decimals."""
    wider = pl.Int128() if column.dtype == pl.Int64 else pl.Float64()
    return pl.col(column.name).cast(wider).sum()


def _check(total: pl.Series, guard: pl.Series) -> None:
    if isinstance(total.dtype, pl.Decimal):
        sizes = guard.abs() * 10.0 ** _scale(total)
        digits = total.cast(pl.String).str.replace_all(r"\D", "").str.strip_chars_start("0").str.len_bytes()
        wrong = (sizes >= _WRAPS).any() or (digits > DECIMAL_DIGITS).any()
    else:
        wrong = not guard.is_between(-(2**63), 2**63 - 1).all()
    if wrong:
        raise out_of_range(total.name)
