"""Calculations on grouped rows: top N on states, then gap filling, comparison and shares on finished values.

Keys are ``bucket``, ``k0``, ``k1`` and so on, and after a top N with an "other" row ``other``, which is true on it. A
null key equals a null key. Finished values are named ``={column of the answer}``.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from broker.aggregation import states
from broker.aggregation.measures import count_like, value_name
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import BUCKET, Finish, key_name
from broker.domain.query import ShareOfTotal, TopN

OTHER = "other"
MAX_FILLED_ROWS = 5_000_000


def dimension_key(finish: Finish, name: str) -> str:
    """The key column of a dimension of the answer, or of its time bucket."""
    names = [column.name for column in finish.keys]
    position = names.index(name) - (finish.grid is not None)
    return BUCKET if position < 0 else key_name(position)


def rank(main: pl.DataFrame, top: TopN, finish: Finish) -> pl.DataFrame:
    """The values of the dimension that stay, as one column: merged over the range and all other keys, then ranked."""
    key = dimension_key(finish, top.dimension)
    outputs = [output for output in finish.outputs if output.column.name == top.by]
    operands = outputs[0].ratio or (top.by,)
    leaves = [leaf for leaf in finish.leaves if leaf.measure.name in operands]
    asked = main.filter(pl.col(BUCKET) >= finish.lead) if finish.grid is not None else main
    merged = states.merge(asked, [key], leaves)
    values = states.finish(merged, [key], leaves, outputs)
    order = [value_name(top.by), key]
    ranked = values.sort(order, descending=[not top.ascending, False], nulls_last=True)
    return ranked.head(top.count).select(key)


def keep(frame: pl.DataFrame, kept: pl.DataFrame, *, other: bool) -> pl.DataFrame:
    """The states of the values that stay; the others are dropped, or flagged and their key made null."""
    (key,) = kept.columns
    if not other:
        return frame.join(kept, on=key, how="semi", nulls_equal=True)
    marked = frame.join(
        kept.with_columns(pl.lit(value=False).alias(OTHER)), on=key, how="left", nulls_equal=True
    ).with_columns(pl.col(OTHER).fill_null(value=True))
    return marked.with_columns(pl.when(~pl.col(OTHER)).then(pl.col(key)))


def fill_gaps(frame: pl.DataFrame, keys: Sequence[str], finish: Finish) -> pl.DataFrame:
    """A row for every bucket of the range and every combination of the other keys; counts are 0, the rest is null.

    Raises:
        BrokerError: RESULT_TOO_LARGE when that makes more than ``MAX_FILLED_ROWS`` rows.
    """
    assert finish.grid is not None
    buckets = pl.DataFrame({BUCKET: range(finish.lead, len(finish.grid.starts))}, schema={BUCKET: pl.Int64()})
    others = [key for key in keys if key != BUCKET]
    combinations = frame.select(others).unique(maintain_order=True) if others else pl.DataFrame(height=1)
    count = buckets.height * combinations.height
    if count > MAX_FILLED_ROWS:
        text = (
            f"Gap filling would make {count} rows, and {MAX_FILLED_ROWS} are allowed. "
            "Use a coarser grain, a shorter range, fewer dimensions or a top_n."
        )
        limits = {"value": str(count), "limit": str(MAX_FILLED_ROWS)}
        raise BrokerError(ErrorReason.RESULT_TOO_LARGE, text, metadata=limits)
    full = buckets.join(combinations, how="cross") if others else buckets
    counts = [value_name(name) for name in count_like(finish.leaves)]
    filled = full.join(frame, on=list(keys), how="left", nulls_equal=True)
    return filled.with_columns(pl.col(counts).fill_null(0))


def compared(finish: Finish) -> tuple[str, ...]:
    """The measures that are compared, in the order of their columns."""
    asked = finish.calculations.compare_to
    if asked is None:
        return ()
    return asked.measures or tuple(output.column.name for output in finish.outputs)


def compare(frame: pl.DataFrame, previous: pl.DataFrame, keys: Sequence[str], finish: Finish) -> pl.DataFrame:
    """Adds previous value, change and ratio of change per compared measure, from the row one shift earlier.

    Raises:
        BrokerError: STORE_REJECTED when a difference leaves the range of its type.
    """
    names = compared(finish)
    theirs = previous.select(*keys, *(pl.col(value_name(n)).alias(_previous(n)) for n in names))
    known = pl.lit(value=True)
    if finish.grid is not None:
        shifted = pl.Series("shifted", finish.shift, pl.Int64())
        frame = frame.with_columns(shifted.gather(frame.get_column(BUCKET)))
        theirs = theirs.rename({BUCKET: "shifted"})
        known = pl.col("shifted") >= 0
    on = ["shifted" if key == BUCKET else key for key in keys]
    joined = frame.join(theirs, on=on, how="left", nulls_equal=True) if on else frame.hstack(theirs)
    counts = count_like(finish.leaves)
    joined = joined.with_columns(
        pl.when(known & pl.col(_previous(n)).is_null())
        .then(0)
        .otherwise(pl.col(_previous(n)))
        .alias(_previous(n))
        for n in names
        if n in counts
    )
    joined = joined.with_columns(_difference(joined, n) for n in names)
    ratios = [_quotient(value_name(f"{n}__change"), pl.col(_previous(n))) for n in names]
    renamed = [r.alias(value_name(f"{n}__change_ratio")) for n, r in zip(names, ratios, strict=True)]
    return joined.with_columns(renamed)


def share(frame: pl.DataFrame, wanted: ShareOfTotal, finish: Finish) -> pl.Series:
    """The measure divided by its total over the rows that agree on ``within``; null where the total is 0.

    Raises:
        BrokerError: STORE_REJECTED when a total of decimals leaves their range.
    """
    column = value_name(wanted.measure)
    keys = [dimension_key(finish, name) for name in wanted.within]
    total = states.totals(frame.get_column(column), frame.select(keys))
    named = frame.select(column).with_columns(total.alias("total"))
    quotient = _quotient(column, pl.col("total"))
    return named.select(quotient.alias(value_name(f"{wanted.measure}__share"))).to_series()


def _previous(name: str) -> str:
    return value_name(f"{name}__previous")


def _quotient(numerator: str, denominator: pl.Expr) -> pl.Expr:
    below = denominator.cast(pl.Float64)
    return pl.when(below != 0).then(pl.col(numerator).cast(pl.Float64) / below)


def _difference(frame: pl.DataFrame, name: str) -> pl.Series:
    return states.minus(frame.get_column(value_name(name)), frame.get_column(_previous(name))).alias(
        value_name(f"{name}__change")
    )
