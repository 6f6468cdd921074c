"""Answered tables as rows of Python values, whichever format they came in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa

from querybroker.v1 import answer_pb2 as a
from querybroker.v1 import query_service_pb2 as s
from tests.oracle.expected import ColumnSpec
from tests.oracle.zones import day_date, moment

ARROW_TYPES = {
    "INT64": (pa.int64(),),
    "DOUBLE": (pa.float64(),),
    "BOOL": (pa.bool_(),),
    "STRING": (pa.string(), pa.large_string(), pa.string_view()),
    "DATE": (pa.date32(),),
}


@dataclass(frozen=True, slots=True)
class Actual:
    """What was answered. Instants are datetimes in UTC."""

    columns: tuple[ColumnSpec, ...]
    rows: tuple[tuple[object, ...], ...]


def from_table(table: a.Table) -> Actual:
    """A table of Dashboard. Raises AssertionError when it contradicts itself."""
    rows = _rows(table.schema, table.row_count, table)
    return Actual(_columns(table.schema), tuple(rows))


def from_stream(events: Sequence[s.ExploreResponse]) -> Actual:
    """The events of Explore. Raises AssertionError when their order or positions are wrong."""
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "header", kinds
    assert kinds[-1] == "status", kinds
    assert set(kinds[1:-1]) <= {"batch"}, kinds
    schema = events[0].header.schema
    rows: list[tuple[object, ...]] = []
    for event in events[1:-1]:
        assert event.batch.first_row == len(rows)
        rows += _rows(schema, event.batch.row_count, event.batch)
    return Actual(_columns(schema), tuple(rows))


def _columns(schema: Iterable[a.ColumnSchema]) -> tuple[ColumnSpec, ...]:
    return tuple(
        ColumnSpec(
            c.name,
            a.DataType.Name(c.type).removeprefix("DATA_TYPE_"),
            a.ColumnRole.Name(c.role).removeprefix("COLUMN_ROLE_"),
            c.scale,
            c.zone,
            c.unit,
        )
        for c in schema
    )


def _rows(
    schema: Sequence[a.ColumnSchema], count: int, data: a.Table | s.RowBatch
) -> list[tuple[object, ...]]:
    if data.WhichOneof("data") == "arrow_ipc":
        columns = _arrow(schema, data.arrow_ipc)
    else:
        assert len(data.columns.columns) == len(schema)
        columns = [_typed(c, s, count) for c, s in zip(data.columns.columns, schema, strict=True)]
    assert all(len(values) == count for values in columns), "columns are not as long as row_count says"
    return list(zip(*columns, strict=True)) if columns else []


def _typed(column: a.Column, schema: a.ColumnSchema, count: int) -> list[object]:
    """Values of a typed column; the kind must be the type's."""
    kind = column.WhichOneof("values")
    expected = a.DataType.Name(schema.type).removeprefix("DATA_TYPE_").lower() + "_values"
    if kind is None and count == 0:
        return []
    assert kind == expected, f"{kind} in a column of {expected}"
    values: list[object]
    match kind:
        case "string_values":
            dictionary = list(column.string_values.dictionary)
            assert len(set(dictionary)) == len(dictionary), "the dictionary repeats a string"
            valid = _valid(column.validity, len(column.string_values.indices))
            indices = column.string_values.indices
            # Rows without a value hold a default, which need not be in the dictionary.
            return [dictionary[i] if ok else None for i, ok in zip(indices, valid, strict=True)]
        case "decimal_values":
            values = [Decimal(v or "0") for v in column.decimal_values.values]
            digits = {len(v.partition(".")[2]) for v in column.decimal_values.values if v}
            assert digits <= {schema.scale}, f"{digits} digits after the point in a column of {schema.scale}"
        case "timestamp_values":
            values = [moment(v) for v in column.timestamp_values.unix_micros]
        case "date_values":
            values = [day_date(v) for v in column.date_values.unix_days]
        case _:
            values = list(getattr(column, expected).values)
    return [v if ok else None for v, ok in zip(values, _valid(column.validity, len(values)), strict=True)]


def _valid(validity: bytes, count: int) -> list[bool]:
    if not validity:
        return [True] * count
    assert len(validity) == (count + 7) // 8, "validity has another length than the rows"
    return [bool(validity[i // 8] >> i % 8 & 1) for i in range(count)]


def _arrow(schema: Sequence[a.ColumnSchema], data: bytes) -> list[list[object]]:
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    assert table.schema.names == [column.name for column in schema]
    for field, column in zip(table.schema, schema, strict=True):
        name = a.DataType.Name(column.type).removeprefix("DATA_TYPE_")
        if name == "DECIMAL":
            assert pa.types.is_decimal(field.type), field
            assert field.type.scale == column.scale, field
        else:
            plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            instants = (pa.timestamp("us", column.zone or "UTC"),)  # a bucket's zone is that of its clock
            assert plain in ARROW_TYPES.get(name, instants), field
    return [[_python(v) for v in column.to_pylist()] for column in table.columns]


def _python(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    assert value is None or isinstance(value, str | int | float | bool | Decimal | date), value
    return value
