"""Blocks of rows as Polars frames with the exact types that the kernels compute in.

==========  ===========================================  ==========================================
type        in a frame                                   why
==========  ===========================================  ==========================================
INT64       Int64
DOUBLE      Float64
DECIMAL     Decimal(38, scale)                           exact
BOOL        Boolean
STRING      String
TIMESTAMP   Int64, microseconds since 1970 in UTC        zones matter only when an answer is encoded
DATE        Int64, days since 1970
==========  ===========================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Context, Decimal

import polars as pl

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Columns, CsvBlock, Rows
from broker.domain.values import Column, DataType

DECIMAL_DIGITS = 38
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SIMPLE: dict[DataType, pl.DataType] = {
    DataType.INT64: pl.Int64(),
    DataType.DOUBLE: pl.Float64(),
    DataType.BOOL: pl.Boolean(),
    DataType.STRING: pl.String(),
    DataType.TIMESTAMP: pl.Int64(),
    DataType.DATE: pl.Int64(),
}


def dtype(kind: DataType, scale: int = 0) -> pl.DataType:
    """The Polars type of a column."""
    return pl.Decimal(DECIMAL_DIGITS, scale) if kind is DataType.DECIMAL else _SIMPLE[kind]


def read(block: Rows | Columns | CsvBlock, names: Sequence[str] | None = None) -> pl.DataFrame:
    """The rows of a block, with the columns' own names or the given ones (names of SQL columns may repeat).

    Raises:
        BrokerError: STORE_REJECTED for a value that its column's type cannot hold, such as a decimal of 40 digits.
    """
    names = names if names is not None else [column.name for column in block.columns]
    if not names:
        return pl.DataFrame(height=_row_count(block))
    try:
        if isinstance(block, CsvBlock):
            return _read_csv(block.data, names, block.columns)
        return pl.DataFrame(map(_series, names, block.columns, block.values))
    except (pl.exceptions.ComputeError, OverflowError, TypeError) as error:
        raise _misfit(error) from error


def empty(columns: Iterable[tuple[str, DataType, int]]) -> pl.DataFrame:
    """A frame without rows, from (name, type, scale)."""
    return pl.DataFrame(schema={name: dtype(kind, scale) for name, kind, scale in columns})


def _series(name: str, column: Column, values: Sequence[object]) -> pl.Series:
    if column.type is DataType.DECIMAL:
        values = tuple(_fitting(value, column.scale) for value in values)
    return pl.Series(name, values, dtype(column.type, column.scale))


def _fitting(value: object, scale: int) -> Decimal | None:
    """The decimal at a scale; the frame's own constructor panics on NaN."""
    if value is None:
        return None
    assert isinstance(value, Decimal)
    unit = Decimal((0, (1,), -scale))
    scaled = value.quantize(unit, context=Context(prec=200)) if value.is_finite() else value
    if not scaled.is_finite() or len(scaled.as_tuple().digits) > DECIMAL_DIGITS:
        raise OverflowError(
            f"{value} is not a decimal of {DECIMAL_DIGITS} digits, {scale} of them after the point"
        )
    return scaled


def _read_csv(data: bytes, names: Sequence[str], columns: Sequence[Column]) -> pl.DataFrame:
    if data.startswith(_BYTE_ORDER_MARK):
        data = _BYTE_ORDER_MARK + data  # the reader drops one, and this one is text
    schema = {
        name: pl.String() if column.type is DataType.BOOL else dtype(column.type, column.scale)
        for name, column in zip(names, columns, strict=True)
    }
    frame = pl.read_csv(data, has_header=False, schema=schema, raise_if_empty=False)
    return frame.with_columns(
        frame.get_column(name) == "t"
        for name, column in zip(names, columns, strict=True)
        if column.type is DataType.BOOL
    )


def _row_count(block: Rows | Columns | CsvBlock) -> int:
    """Rows of a block without columns: nothing was selected but the one group of all rows."""
    return block.data.count(b"\n") if isinstance(block, CsvBlock) else block.count


def _misfit(error: Exception) -> BrokerError:
    shown = str(error).partition("\n")[0][:200]
    text = (
        f"The database returned a value that does not fit the declared type of its column ({shown}). "
        "Declare a wider type in the model (only double holds NaN and infinity), or exclude the value with a filter."
    )
    return BrokerError(ErrorReason.STORE_REJECTED, text, metadata={"detail": shown})
