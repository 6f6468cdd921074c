"""States of a scan from the table of an answer that is held: its rows are picked and filtered, and put into buckets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.aggregation import unpack
from broker.aggregation.having import predicate
from broker.aggregation.measures import value_name
from broker.domain.plan import BUCKET, HeldBlock
from broker.domain.values import DataType

_DAY = 86_400_000_000


def read(block: HeldBlock) -> pl.DataFrame:
    """Rows of keys and states, several for a key where the answer is coarser than what is held."""
    table = unpack.table(block.data, block.format, block.columns)
    if block.limit:
        table = table.head(block.limit)
    if block.present:
        table = table.filter(pl.col(block.present) > 0)
    if block.filter is not None:
        named = table.rename(value_name)
        passes = predicate(block.filter, {column.name: column for column in block.columns})
        table = table.filter(named.select(passes.fill_null(value=False).alias("!")).to_series())
    found: list[pl.Series] = []
    if block.span is not None:
        at = _instants(table, block)
        kept = (at >= block.span.lo) & (at < block.span.hi)
        table, at = table.filter(pl.Series(kept)), at[kept]
        if block.starts:
            starts = np.frombuffer(block.starts, "<i8")
            found.append(pl.Series(BUCKET, np.searchsorted(starts, at, side="right") - 1, pl.Int64()))
    found += [table.get_column(name).alias(key) for name, key in block.keys]
    found += [table.get_column(name).alias(state) for state, name in block.states]
    return pl.DataFrame(found) if found else pl.DataFrame(height=table.height)


def _instants(table: pl.DataFrame, block: HeldBlock) -> npt.NDArray[np.int64]:
    """When the rows begin, in microseconds; the first bucket of a range begins with the range."""
    if not block.bucket:
        return np.full(table.height, block.begin, np.int64)
    column = next(column for column in block.columns if column.name == block.bucket)
    unit = _DAY if column.type is DataType.DATE else 1
    found: npt.NDArray[np.int64] = np.maximum(table.get_column(block.bucket).to_numpy() * unit, block.begin)
    return found
