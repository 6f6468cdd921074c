"""The loaded tables hold what the CSV files hold, all of it or nothing."""

import asyncio
import io

import asyncpg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from broker.demo.flights import LoadedFlights, load_flights
from broker.demo.flights_source import DemoDataError
from broker.demo.flights_tables import TABLES
from tests.conftest import FreshDatabase
from tests.support.flights_frames import FlightsFrames, read_csv_frames
from tests.support.pg import Connection

SMALL = 500
ROWS = {"airlines": 16, "airports": 1458, "planes": 3322, "weather": 26115}


async def table_frame(connection: Connection, name: str, like: pl.DataFrame) -> pl.DataFrame:
    """The table with the types of `like`, through COPY; null is a word that no value is."""
    text = io.BytesIO()
    await connection.copy_from_query(
        f"SELECT * FROM {name}", output=text, format="csv", header=True, null="(null)"
    )
    frame = pl.read_csv(
        text.getvalue(), infer_schema=False, null_values=["(null)"], empty_string_is_null=False
    )
    instants = [column for column, kind in like.schema.items() if isinstance(kind, pl.Datetime)]
    frame = frame.with_columns(
        pl.col(instants).str.to_datetime("%Y-%m-%d %H:%M:%S%#z", time_unit="us", time_zone="UTC")
    )
    return frame.cast(dict(like.schema))  # type: ignore[arg-type] # the stubs want a dict of a wider key


async def test_every_value_and_every_null_is_that_of_the_files(pg: Connection) -> None:
    loaded = await load_flights(pg)
    frames = read_csv_frames()
    assert loaded == LoadedFlights({**ROWS, "flights": 336_776}, fresh=True)
    for table in TABLES:
        expected: pl.DataFrame = getattr(frames, table.name)
        found = await table_frame(pg, table.name, expected)
        order = "id" if table.numbered else expected.columns
        assert_frame_equal(found.sort(order), expected.sort(order), check_exact=True)
        assert expected.height > 0


async def test_null_is_allowed_exactly_where_the_files_have_it(pg: Connection) -> None:
    await load_flights(pg, sample_rows=SMALL)
    frames = read_csv_frames()
    for table in TABLES:
        expected: pl.DataFrame = getattr(frames, table.name)
        nullable = await pg.fetchval(
            "SELECT array_agg(attname::text) FROM pg_attribute "
            "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attnotnull",
            table.name,
        )
        assert set(nullable or []) == {column.name for column in expected if column.null_count()}, table.name


async def test_a_second_load_changes_nothing(pg: Connection) -> None:
    first = await load_flights(pg, sample_rows=SMALL)
    files = (
        "SELECT array_agg(pg_relation_filenode(oid) ORDER BY oid) FROM pg_class WHERE relkind IN ('r', 'i')"
    )
    before = await pg.fetchval(files)
    await pg.execute("UPDATE flights SET dest = 'XYZ' WHERE id = (SELECT min(id) FROM flights)")
    second = await load_flights(pg, sample_rows=SMALL)
    assert (first.fresh, second.fresh) == (True, False)
    assert first.rows == second.rows == {**ROWS, "flights": SMALL}
    assert await pg.fetchval(files) == before
    assert await pg.fetchval("SELECT count(*) FROM flights WHERE dest = 'XYZ'") == 1


async def test_of_two_loads_at_once_one_does_the_work(fresh_database: FreshDatabase) -> None:
    dsn = await fresh_database()
    connections = [await asyncpg.connect(dsn) for _ in range(2)]
    outcomes = await asyncio.gather(
        *(load_flights(connection, sample_rows=SMALL) for connection in connections)
    )
    for connection in connections:
        await connection.close()
    assert sorted(outcome.fresh for outcome in outcomes) == [False, True]
    assert outcomes[0].rows == outcomes[1].rows


async def test_a_load_that_is_cut_off_leaves_nothing(pg: Connection) -> None:
    def cut_off(done: int, total: int) -> None:
        if done > total // 2:
            raise ConnectionAbortedError("cut off")

    with pytest.raises(ConnectionAbortedError):
        await load_flights(pg, sample_rows=40_000, progress=cut_off)
    assert await pg.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert (await load_flights(pg, sample_rows=SMALL)).fresh


async def test_nobody_sees_tables_half_loaded(fresh_database: FreshDatabase) -> None:
    dsn = await fresh_database()
    watcher, loader = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    half_way, go_on = asyncio.Event(), asyncio.Event()
    load = asyncio.create_task(load_flights(_Pausing(loader, half_way, go_on), sample_rows=SMALL))  # type: ignore[arg-type] # stands in for a connection
    await half_way.wait()
    assert await watcher.fetchval("SELECT to_regclass('flights') IS NULL AND to_regclass('airlines') IS NULL")
    go_on.set()
    await load
    assert await watcher.fetchval("SELECT count(*) FROM flights") == SMALL
    await watcher.close()
    await loader.close()


class _Pausing:
    """A connection that stops before the keys are made, until told to go on."""

    def __init__(self, connection: Connection, reached: asyncio.Event, go_on: asyncio.Event) -> None:
        self._connection, self._reached, self._go_on = connection, reached, go_on

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    async def execute(self, statement: str, *arguments: object) -> str:
        if statement.startswith("ALTER TABLE"):
            self._reached.set()
            await self._go_on.wait()
        return await self._connection.execute(statement, *arguments)


@pytest.mark.parametrize(("sample_rows", "copies"), [(SMALL + 1, 1), (None, 1), (SMALL, 2)])
async def test_tables_loaded_otherwise_are_refused_and_left_alone(
    pg: Connection, sample_rows: int | None, copies: int
) -> None:
    await load_flights(pg, sample_rows=SMALL)
    with pytest.raises(
        DemoDataError, match=f"holds .*flights {SMALL}, copies 1; asked for is .*Drop those tables"
    ):
        await load_flights(pg, sample_rows=sample_rows, copies=copies)
    assert await pg.fetchval("SELECT count(*) FROM flights") == SMALL


async def test_tables_of_somebody_else_are_refused_and_left_alone(pg: Connection) -> None:
    await pg.execute("CREATE TABLE planes AS SELECT 'mine' AS owner")
    with pytest.raises(DemoDataError, match="holds tables of its own named planes"):
        await load_flights(pg, sample_rows=SMALL)
    assert await pg.fetchval("SELECT owner FROM planes") == "mine"
    assert await pg.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1


async def test_numbers_that_make_no_sense_are_all_named(pg: Connection) -> None:
    with pytest.raises(
        ValueError, match="sample_rows must be at least 1, not 0; copies must be at least 1, not -1"
    ):
        await load_flights(pg, sample_rows=0, copies=-1)


async def test_a_sample_keeps_row_numbers_and_brings_the_other_tables_whole(pg: Connection) -> None:
    loaded = await load_flights(pg, sample_rows=SMALL)
    expected = read_csv_frames(SMALL).flights
    assert loaded.rows == {**ROWS, "flights": SMALL}
    assert_frame_equal((await table_frame(pg, "flights", expected)).sort("id"), expected, check_exact=True)


async def test_a_row_inserted_later_gets_a_number_of_its_own(pg: Connection) -> None:
    await load_flights(pg, sample_rows=SMALL)
    columns = ", ".join(name for name, _ in TABLES[-1].columns)
    last = await pg.fetchval("SELECT max(id) FROM flights")
    added = await pg.fetchval(
        f"INSERT INTO flights ({columns}) SELECT {columns} FROM flights LIMIT 1 RETURNING id"
    )
    assert added == last + 1


async def test_copies_are_whole_years_later_with_everything_else_kept(pg: Connection) -> None:
    loaded = await load_flights(pg, sample_rows=SMALL, copies=3)
    assert loaded.rows == {**ROWS, "flights": 3 * SMALL, "weather": 3 * ROWS["weather"]}
    frames = read_csv_frames(SMALL)
    for name in ("flights", "weather"):
        first: pl.DataFrame = getattr(frames, name)
        found = await table_frame(pg, name, first)
        for years in range(3):
            expected = first.with_columns(
                pl.col("year") + years,
                pl.col("time_hour").dt.offset_by(f"{years}y"),
                *_shifted_id(name, years),
            )
            copy = found.filter(pl.col("year") == 2013 + years)
            order = ["origin", "time_hour"] if name == "weather" else ["id"]
            assert_frame_equal(copy.sort(order), expected.sort(order), check_exact=True)


def _shifted_id(name: str, years: int) -> list[pl.Expr]:
    return [pl.col("id") + 336_776 * years] if name == "flights" else []


async def test_progress_rises_to_the_total_by_rows(pg: Connection) -> None:
    seen: list[tuple[int, int]] = []
    await load_flights(pg, sample_rows=20_000, copies=2, progress=lambda *pair: seen.append(pair))
    total = sum(ROWS.values()) + 20_000 + ROWS["weather"] + 20_000
    assert {pair[1] for pair in seen} == {total}
    done = [pair[0] for pair in seen]
    assert done == sorted(set(done))
    assert done[-1] == total
    assert len(done) > len(TABLES)


async def test_keys_and_time_are_indexed(pg: Connection) -> None:
    await load_flights(pg, sample_rows=SMALL)
    indexes = await pg.fetch("SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    found = {f"{row['tablename']} {row['indexdef'].rpartition('btree ')[2]}" for row in indexes}
    assert found == {
        "flights (id)",
        "flights (time_hour)",
        "weather (origin, time_hour)",
        "weather (time_hour)",
        "planes (tailnum)",
        "airports (faa)",
        "airlines (carrier)",
    }


async def test_the_hour_of_a_flight_is_local_time_in_new_york(
    flights_dsn: str, flights_frames: FlightsFrames
) -> None:
    connection = await asyncpg.connect(flights_dsn)
    agreeing = await connection.fetchval(
        "SELECT count(*) FROM flights "
        "WHERE time_hour AT TIME ZONE 'America/New_York' = make_timestamp(year, month, day, hour, 0, 0)"
    )
    await connection.close()
    assert agreeing == flights_frames.flights.height


async def test_relations_that_the_files_do_not_keep_are_as_documented(pg: Connection) -> None:
    await load_flights(pg)
    missing = "SELECT count(*) FROM flights LEFT JOIN {0} t ON t.{1} = flights.{2} WHERE t.{1} IS NULL"
    assert await pg.fetchval(missing.format("planes", "tailnum", "tailnum")) == 52_606
    assert await pg.fetchval(missing.format("airports", "faa", "dest")) == 7_602
    assert await pg.fetchval(missing.format("airports", "faa", "origin")) == 0
    assert await pg.fetchval(missing.format("airlines", "carrier", "carrier")) == 0
