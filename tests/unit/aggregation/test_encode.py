"""Encoders: what they write is what the generated code would have written, and reads back as it was."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation import encode, frames, packing, plain_encode, wire
from broker.aggregation.schema import ROLE_NUMBERS, TYPE_NUMBERS
from broker.domain.plan import Rows
from broker.domain.values import Column, ColumnRole, DataType, ResultFormat
from querybroker.v1 import answer_pb2, query_service_pb2

COLUMNS = (
    Column("when", DataType.TIMESTAMP, ColumnRole.TIME_BUCKET, zone="Europe/Berlin"),
    Column("day", DataType.DATE, ColumnRole.DIMENSION),
    Column("text", DataType.STRING, ColumnRole.DIMENSION),
    Column("whole", DataType.INT64, ColumnRole.MEASURE, unit="min"),
    Column("real", DataType.DOUBLE, ColumnRole.MEASURE),
    Column("exact", DataType.DECIMAL, ColumnRole.MEASURE, scale=4),
    Column("flag", DataType.BOOL, ColumnRole.CALCULATION),
)
FIELDS = {
    DataType.INT64: "int64_values",
    DataType.DOUBLE: "double_values",
    DataType.BOOL: "bool_values",
    DataType.STRING: "string_values",
    DataType.DECIMAL: "decimal_values",
    DataType.TIMESTAMP: "timestamp_values",
    DataType.DATE: "date_values",
}
whole = st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200)
row = st.tuples(
    *(
        st.none() | values
        for values in (
            st.integers(-(10**15), 10**16),
            st.integers(-700_000, 900_000),
            st.sampled_from(["", "a", "é" * 64, "x" * 127, "x" * 128, "y" * 20_000]) | st.text(max_size=5),
            whole,
            st.floats(),
            st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}e-4")),
            st.booleans(),
        )
    )
)
tables = st.lists(row, max_size=20)


def decoded(column: answer_pb2.Column, kind: DataType) -> list[Any]:
    """The values of a column as a client reads them."""
    assert column.WhichOneof("values") == FIELDS[kind]
    message = getattr(column, FIELDS[kind])
    if kind is DataType.STRING:
        count = len(message.indices)
        values: list[Any] = [
            message.dictionary[i] if i < len(message.dictionary) else "" for i in message.indices
        ]
    else:
        values = list(next(iter(message.ListFields()), (None, []))[1])
        count = len(values)
    valid = [not column.validity or bool(column.validity[i // 8] >> i % 8 & 1) for i in range(count)]
    if kind is DataType.DECIMAL:
        return [Decimal(v) if ok else None for v, ok in zip(values, valid, strict=True)]
    return [v if ok else None for v, ok in zip(values, valid, strict=True)]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right) and str(left) == str(right)


@settings(max_examples=150, deadline=None)
@given(tables)
def test_tables_read_back(rows: list[tuple[Any, ...]]) -> None:
    frame = frames.read(Rows(COLUMNS, tuple(rows)))
    data = encode.table(frame, COLUMNS, ResultFormat.COLUMNS)
    table = answer_pb2.Table.FromString(data)
    assert table.SerializeToString(deterministic=True) == data, "no other bytes say the same"
    assert table.row_count == len(rows)
    for i, (column, schema, shown) in enumerate(
        zip(table.columns.columns, table.schema, COLUMNS, strict=True)
    ):
        assert (schema.name, schema.scale, schema.zone, schema.unit) == (
            shown.name,
            shown.scale,
            shown.zone,
            shown.unit,
        )
        expected = [r[i] for r in rows]
        found = decoded(column, shown.type)
        assert len(found) == len(expected)
        assert all(map(same, found, expected)), (shown.name, found, expected)
        assert bool(column.validity) is (None in expected)


@settings(max_examples=150, deadline=None)
@given(tables)
def test_the_plain_encoder_writes_the_same_bytes(rows: list[tuple[Any, ...]]) -> None:
    frame = frames.read(Rows(COLUMNS, tuple(rows)))
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    assert plain_encode.table(columns, COLUMNS) == (
        len(rows),
        encode.table(frame, COLUMNS, ResultFormat.COLUMNS),
    )
    batch = encode.row_batch(frame, COLUMNS, ResultFormat.COLUMNS)
    assert plain_encode.row_batch(columns, COLUMNS) == (len(rows), batch)
    assert query_service_pb2.RowBatch.FromString(batch).row_count == len(rows)


@settings(max_examples=100, deadline=None)
@given(tables)
def test_arrow_reads_back_in_the_types_of_other_languages(rows: list[tuple[Any, ...]]) -> None:
    frame = frames.read(Rows(COLUMNS, tuple(rows)))
    data = answer_pb2.Table.FromString(encode.table(frame, COLUMNS, ResultFormat.ARROW)).arrow_ipc
    found = pa.ipc.open_stream(data).read_all()
    assert [field.name for field in found.schema] == [column.name for column in COLUMNS]
    assert [field.type for field in found.schema] == [
        pa.timestamp("us", tz="Europe/Berlin"), pa.date32(), pa.string(), pa.int64(), pa.float64(),
        pa.decimal128(38, 4), pa.bool_(),
    ]  # fmt: skip
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for i, column in enumerate(COLUMNS):
        expected = [r[i] for r in rows]
        if column.type is DataType.DATE:
            expected = [None if v is None else date(1970, 1, 1) + timedelta(days=v) for v in expected]
        got = found.column(i).to_pylist()
        if column.type is DataType.TIMESTAMP:
            expected = [None if v is None else epoch + timedelta(microseconds=v) for v in expected]
            assert all(v is None or v.tzinfo == ZoneInfo("Europe/Berlin") for v in got)
            assert got == expected
        elif column.type is DataType.DECIMAL:
            assert got == expected
        else:
            assert all(map(same, got, expected))


def test_names_of_columns_may_repeat() -> None:
    columns = (Column("a", DataType.INT64), Column("a", DataType.STRING), Column("^a.*$", DataType.INT64))
    frame = pl.DataFrame({"c0": [1], "c1": ["x"], "c2": [2]})
    for encoding in ResultFormat:
        table = answer_pb2.Table.FromString(encode.table(frame, columns, encoding))
        assert [schema.name for schema in table.schema] == ["a", "a", "^a.*$"]
    table = answer_pb2.Table.FromString(encode.table(frame, columns, ResultFormat.ARROW))
    read = pa.ipc.open_stream(table.arrow_ipc).read_all()
    assert [read.column(i).to_pylist() for i in range(3)] == [[1], ["x"], [2]]


def test_enums_have_the_numbers_of_the_contract() -> None:
    for kind, number in TYPE_NUMBERS.items():
        assert answer_pb2.DataType.Name(number) == f"DATA_TYPE_{kind.name}"  # type: ignore[arg-type] # a plain number
    roles = {ColumnRole.SQL: "COLUMN_ROLE_UNSPECIFIED"}
    for role, number in ROLE_NUMBERS.items():
        assert answer_pb2.ColumnRole.Name(number) == roles.get(role, f"COLUMN_ROLE_{role.name}")  # type: ignore[arg-type] # a plain number
    assert set(TYPE_NUMBERS) == set(DataType)
    assert set(ROLE_NUMBERS) == set(ColumnRole)


@given(st.lists(whole))
def test_packed_numbers_are_those_of_protobuf(values: list[int]) -> None:
    expected = answer_pb2.Int64Values(values=values).SerializeToString()
    assert b"".join(wire.packed(1, packing.varints(packing.zigzag(np.array(values, np.int64))))) == expected
    plain = plain_encode.table([values], [Column("n", DataType.INT64)])
    assert plain is not None
    assert plain[1].endswith(expected)


@pytest.mark.parametrize("bits", range(64))
def test_numbers_of_every_length_are_those_of_protobuf(bits: int) -> None:
    values = [(1 << bits) - 1, 1 << bits]
    assert wire.varints(values) == bytes(packing.varints(np.array(values, np.uint64)))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 300_000])
def test_strings_of_every_length_are_those_of_protobuf(length: int) -> None:
    chance = Random(length)
    values = ["x" * length, "", "é", "y" * chance.randint(0, length)]
    data = b"".join(value.encode() for value in values)
    offsets = np.cumsum([0, *(len(value.encode()) for value in values)])
    expected = answer_pb2.DecimalValues(values=values).SerializeToString()
    assert packing.string_column(1, offsets, np.frombuffer(data, np.uint8)) == expected
    assert wire.strings(1, values) == expected


def test_a_value_that_does_not_fit_is_left_to_the_worker() -> None:
    for column, value in (
        (COLUMNS[3], 2**63),
        (COLUMNS[5], Decimal("NaN")),
        (COLUMNS[5], Decimal(10**34)),
    ):
        assert plain_encode.table([[value]], [column]) is None


def test_a_negative_zero_is_zero() -> None:
    exact = (COLUMNS[5],)
    frame = frames.read(Rows(exact, ((Decimal("-0.00"),), (Decimal("-0.5"),))))
    made = plain_encode.table([[Decimal("-0.00"), Decimal("-0.5")]], exact)
    assert made == (2, encode.table(frame, exact, ResultFormat.COLUMNS))
    assert b"-0.0000" not in made[1]


def test_a_message_past_the_limit_of_protobuf_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "MAX_MESSAGE", 100)
    frame = pl.DataFrame({"c0": ["x" * 200]})
    with pytest.raises(Exception, match="stream it with Explore"):
        encode.table(frame, [Column("a", DataType.STRING)], ResultFormat.COLUMNS)
