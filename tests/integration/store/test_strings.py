"""Strings that are hard to write down, as values, as keys and in CSV."""

from __future__ import annotations

import asyncpg
import pytest

from broker.adapters.pg_snapshot import ReadLimits
from broker.adapters.pg_store import PgStore
from broker.domain.model import Dataset, Dimension
from broker.domain.query import (
    Operator,
    Query,
)
from broker.domain.values import DataType
from tests.conftest import FreshDatabase
from tests.integration.store.conftest import MakeStore, condition, read

STRINGS = [
    None, "", " ", "\\N", "\\.", '"', '""', "'", ",", "\n", "\r\n", "\r", "a\nb", "\ufeff", "\ufeffx", "null", "NULL",
    "\t", "日本", "\U0001f600", "%", "_", "\\", "t", "a,b\"c\nd", "0", "NaN",
]  # fmt: skip


@pytest.fixture
async def strings(fresh_database: FreshDatabase, make_store: MakeStore) -> tuple[PgStore, PgStore]:
    """Stores, one of which copies, on a table of strings that are hard to write down."""
    dsn = await fresh_database()
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE strings (s text, n int)")
    await connection.executemany(
        "INSERT INTO strings VALUES ($1, $2)", [(s, i) for i, s in enumerate(STRINGS)]
    )
    await connection.close()
    return await make_store(dsn), await make_store(dsn, limits=ReadLimits(rows=-1))


TEXTS = Dataset(
    "strings",
    "strings",
    {
        "s": Dimension("s", "strings.s", DataType.STRING, ("strings",)),
        "n": Dimension("n", "strings.n", DataType.INT64, ("strings",)),
    },
    {},
)


@pytest.mark.parametrize("dimensions", [("s",), ("n", "s"), ("s", "n")])
async def test_strings_come_back_as_they_are(
    strings: tuple[PgStore, PgStore], dimensions: tuple[str, ...]
) -> None:
    by_code_point = sorted((s for s in STRINGS if s is not None), key=lambda s: s.encode())
    for store in strings:
        found = await read(store, Query("strings", dimensions=dimensions), TEXTS)
        again = await read(store, Query("strings", dimensions=dimensions), TEXTS)
        assert again == found
        if dimensions[0] == "n":
            assert [row[1] for row in found] == STRINGS
        else:
            assert [row[0] for row in found] == [*by_code_point, None]


@pytest.mark.parametrize("value", [s for s in STRINGS if s is not None])
async def test_strings_are_found_as_they_are(strings: tuple[PgStore, PgStore], value: str) -> None:
    for store in strings:
        for operator, matches in (
            (Operator.EQ, lambda s: s == value),
            (Operator.CONTAINS, lambda s: value in s),
            (Operator.STARTS_WITH, lambda s: s.startswith(value)),
            (Operator.ENDS_WITH, lambda s: s.endswith(value)),
        ):
            query = Query("strings", dimensions=("n",), filter=condition("s", operator, value))
            found = [row[0] for row in await read(store, query, TEXTS)]
            assert found == [i for i, s in enumerate(STRINGS) if s is not None and matches(s)], operator
        both = Query("strings", dimensions=("n",), filter=condition("s", Operator.IN, value, "nothing"))
        assert await read(store, both, TEXTS) == [(STRINGS.index(value),)]


@pytest.mark.parametrize("value", ["\ufeff", "\ufeffx"])
async def test_a_byte_order_mark_at_the_start_of_a_block_stays(
    strings: tuple[PgStore, PgStore], value: str
) -> None:
    query = Query("strings", dimensions=("s",), filter=condition("s", Operator.EQ, value))
    for store in strings:
        assert await read(store, query, TEXTS) == [(value,)]
