"""The fixtures of tests/conftest.py keep tests apart from each other."""

import asyncpg
import pytest

from broker.demo.embedded import EmbeddedPostgres
from tests.conftest import FreshDatabase
from tests.support.flights_frames import FlightsFrames
from tests.support.pg import SAMPLE_ROWS, Connection, Databases


async def test_the_shared_flights_are_the_sample_and_refuse_writes(
    flights_dsn: str, flights_frames: FlightsFrames
) -> None:
    connection = await asyncpg.connect(flights_dsn)
    ids = await connection.fetchval("SELECT array_agg(id ORDER BY id) FROM flights")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await connection.execute("DELETE FROM flights")
    await connection.close()
    assert len(ids) == SAMPLE_ROWS
    assert ids == flights_frames.flights["id"].to_list()


async def test_a_fresh_database_with_flights_can_be_written_and_is_nobody_elses(
    fresh_database: FreshDatabase,
) -> None:
    first, second = await fresh_database(flights=True), await fresh_database(flights=True)
    writer = await asyncpg.connect(first)
    await writer.execute("DELETE FROM flights")
    await writer.close()
    reader = await asyncpg.connect(second)
    count = await reader.fetchval("SELECT count(*) FROM flights")
    await reader.close()
    assert count == SAMPLE_ROWS


async def test_a_database_is_dropped_though_a_session_is_left_in_it(
    databases: Databases, pg: Connection
) -> None:
    dsn = await databases.create()
    left = await asyncpg.connect(dsn)
    name = await left.fetchval("SELECT current_database()")
    await databases.drop(dsn)
    assert await pg.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name) == 0
    left.terminate()


async def test_own_postgres_is_another_server(
    own_postgres: EmbeddedPostgres, postgres: EmbeddedPostgres
) -> None:
    own_postgres.kill9()
    connection = await asyncpg.connect(postgres.dsn())
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
