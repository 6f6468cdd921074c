"""Blocks as frames: whatever COPY writes comes back."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation import frames
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Columns, CsvBlock, Rows
from broker.domain.values import Column, DataType
from tests.unit.aggregation.source import copied

COLUMNS = (
    Column("s", DataType.STRING),
    Column("i", DataType.INT64),
    Column("d", DataType.DOUBLE),
    Column("n", DataType.DECIMAL, scale=3),
    Column("b", DataType.BOOL),
    Column("t", DataType.TIMESTAMP),
    Column("l", DataType.STRING),
)
texts = st.text(
    st.sampled_from("ab,\"\n\r \\N.\té\ufeff'#")
    | st.characters(exclude_categories=["Cs"], exclude_characters="\0")
)
doubles = (
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]) | st.floats()
)
whole = st.integers(-(2**63), 2**63 - 1)
decimals = st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}e-3"))
rows = st.tuples(
    *(st.none() | values for values in (texts, whole, doubles, decimals, st.booleans(), whole, texts))
)


def quoted(row: tuple[object, ...]) -> str:
    """A line of a block: the store has a first column of text quoted always."""
    first, *rest = row
    text = "" if first is None else '"' + str(first).replace('"', '""') + '"'
    return ",".join([text, *map(copied, rest)]) + "\n"


@settings(max_examples=300, deadline=None)
@given(st.lists(rows, max_size=8))
def test_both_kinds_of_blocks_give_the_same_values(values: list[tuple[object, ...]]) -> None:
    csv = CsvBlock(COLUMNS, "".join(map(quoted, values)).encode())
    rows = Rows(COLUMNS, tuple(values))
    for block in (csv, rows, Columns(COLUMNS, rows.values)):
        found = frames.read(block)
        assert found.columns == [column.name for column in COLUMNS]
        assert [[_comparable(v) for v in row] for row in found.rows()] == [
            [_comparable(v) for v in row] for row in values
        ]


@given(st.lists(st.none() | texts, max_size=8))
def test_one_column_of_text_keeps_its_nulls_and_empty_lines(values: list[str | None]) -> None:
    block = CsvBlock((COLUMNS[0],), "".join(quoted((value,)) for value in values).encode())
    assert frames.read(block).get_column("s").to_list() == values


def test_an_unquoted_byte_order_mark_is_text() -> None:
    block = CsvBlock((COLUMNS[0], COLUMNS[1]), "\ufeff,5\n".encode())
    assert frames.read(block).rows() == [("\ufeff", 5)]


def test_a_mark_for_null_is_text() -> None:
    block = CsvBlock((COLUMNS[0],), b'\\N\n"\\N"\n')
    assert frames.read(block).get_column("s").to_list() == ["\\N", "\\N"]


def test_rows_without_columns_are_counted() -> None:
    assert frames.read(Rows((), ((), ()))).height == 2
    assert frames.read(CsvBlock((), b"\n\n\n")).height == 3


def test_names_of_columns_may_be_given_because_sql_repeats_them() -> None:
    twice = (Column("a", DataType.INT64), Column("a", DataType.INT64))
    assert frames.read(CsvBlock(twice, b"1,2\n"), ["c0", "c1"]).rows() == [(1, 2)]


@pytest.mark.parametrize(
    ("column", "value", "written"),
    [
        (COLUMNS[1], 2**63, "9223372036854775808"),
        (COLUMNS[1], -(2**63) - 1, "-9223372036854775809"),
        (COLUMNS[3], Decimal("NaN"), "NaN"),
        (COLUMNS[3], Decimal("Infinity"), "Infinity"),
        (COLUMNS[3], Decimal("1e35"), "1" + "0" * 35),
    ],
)
def test_values_that_do_not_fit_are_an_error(column: Column, value: object, written: str) -> None:
    for block in (Rows((column,), ((value,),)), CsvBlock((column,), f"{written}\n".encode())):
        with pytest.raises(BrokerError) as raised:
            frames.read(block)
        assert raised.value.reason is ErrorReason.STORE_REJECTED
        assert "wider type" in raised.value.message


def _comparable(value: object) -> object:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value
