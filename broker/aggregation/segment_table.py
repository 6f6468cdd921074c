"""Base rows of a rollup that is kept as a table, as PostgreSQL's COPY reads them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from broker.aggregation.measures import state_columns
from broker.aggregation.segment_file import START
from broker.domain.measures import SKETCHES
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
            return column.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M:%S%.6f+00")
        case DataType.DATE:
            return column.cast(pl.Int32).cast(pl.Date).dt.strftime("%Y-%m-%d")
        case DataType.BOOL:
            return pl.when(column).then(pl.lit("t")).when(~column).then(pl.lit("f")).alias(name)
        case _:
            return column
