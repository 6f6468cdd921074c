"""The word lists of the configuration against a real server."""

from __future__ import annotations

from broker.config import sql_names as names
from tests.support.pg import Connection


async def _names(connection: Connection, condition: str) -> set[str]:
    return {
        row[0] for row in await connection.fetch(f"SELECT DISTINCT proname FROM pg_proc WHERE {condition}")
    }


async def test_reserved_words_are_those_of_the_server(pg: Connection) -> None:
    rows = await pg.fetch("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')")
    assert {row[0] for row in rows} == names.RESERVED_WORDS


async def test_every_aggregate_is_known(pg: Connection) -> None:
    assert await _names(pg, "prokind = 'a'") == names.AGGREGATES


async def test_no_function_for_users_that_returns_several_rows_is_missing(pg: Connection) -> None:
    found = await _names(pg, r"proretset AND proname !~ '^(pg|_|txid)'")
    assert found == names.SET_FUNCTIONS


async def test_no_volatile_function_for_users_is_missing(pg: Connection) -> None:
    callable_ = (
        "provolatile = 'v' AND prokind = 'f' AND NOT proretset AND prorettype::regtype::text NOT IN "
        "('trigger', 'index_am_handler', 'table_am_handler', 'tsm_handler', 'language_handler', 'void', 'internal') "
        r"AND proname !~ '^(_|binary|plpgsql_|brin_|gin_|amvalidate|currtid|dsnowball|ts_rewrite)'"
    )
    volatile = await _names(pg, callable_)
    missing = {
        name
        for name in volatile
        if name not in names.VOLATILE_FUNCTIONS and not name.startswith(names.VOLATILE_PREFIXES)
    }
    assert missing == set()
    assert len(volatile) > 20
