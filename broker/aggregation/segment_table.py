"""Base rows of a rollup that is kept as a table, as PostgreSQL's COPY reads them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from broker.aggregation.measures import state_columns
from broker.aggregation.segment_file import START
from broker.domain.measures import EARLIEST, LATEST, SKETCHES
from broker.domain.model import Dimension
from broker.domain.plan import Leaf, key_name
from broker.domain.values import DataType


def csv(rows: pl.DataFrame, stored: Sequence[Dimension], leaves: Sequence[Leaf]) -> bytes:
    """The rows in the form that :class:`broker.domain.segment.BuiltFiles` describes.

    Raises:
        ValueError: A measure is kept as a sketch, which a table cannot merge.
    """
    sketched = [leaf.measure.name for leaf in leaves if leaf.measure.kind in SKETCHES]
    if sketched:
        raise ValueError(f"a table holds no sketches: {sketched}")
    types = {START: DataType.TIMESTAMP, **{key_name(i): d.type for i, d in enumerate(stored)}}
    for leaf in leaves:
        types.update(zip(state_columns(leaf), (state.type for state in leaf.states), strict=True))
    text = rows.select(_text(name, kind) for name, kind in types.items())
    return text.write_csv(include_header=False, quote_style="non_numeric", null_value="").encode()


def _text(name: str, kind: DataType) -> pl.Expr:
    column = pl.col(name)
    match kind:
        case DataType.TIMESTAMP:
            return _ended(column, column.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M:%S%.6f+00"))
        case DataType.DATE:
            days = column.cast(pl.Int32, strict=False).cast(pl.Date)
            return _ended(column, days.dt.strftime("%Y-%m-%d"))
        case DataType.BOOL:
            return pl.when(column).then(pl.lit("t")).when(~column).then(pl.lit("f")).alias(name)
        case _:
            return column


def _ended(column: pl.Expr, text: pl.Expr) -> pl.Expr:
    """The text, but for infinite times; they are among the order keys of first and last."""
    early = pl.when(column == EARLIEST).then(pl.lit("-infinity"))
    return early.when(column == LATEST).then(pl.lit("infinity")).otherwise(text).name.keep()
