"""Fixtures for every test.

Session fixtures are synchronous: they are set up outside any event loop, so tests with loops of any scope
can share them. What a test writes to, it makes for itself with `fresh_database` or `own_postgres`.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Protocol

import asyncpg
import hypothesis
import pytest

from broker.demo.embedded import EmbeddedPostgres
from tests.support.flights_frames import FlightsFrames, read_csv_frames
from tests.support.pg import SAMPLE_ROWS, Connection, Databases, run_sync, temporary_server
from tests.support.server import RunningBroker, running_broker


def pytest_configure() -> None:
    """Whoever ends the tests with SIGTERM, as ``timeout`` does, has them leave nothing behind, as after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    too_slow = [hypothesis.HealthCheck.too_slow]  # machines that are busy take their time
    hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=too_slow)
    hypothesis.settings.load_profile("untimed")


class FreshDatabase(Protocol):
    """Makes a database for one test and returns its DSN; `flights` for one with the sample loaded."""

    def __call__(self, *, flights: bool = False) -> Awaitable[str]: ...


@pytest.fixture
def home() -> Iterator[Path]:
    """A new directory that other accounts may enter, unlike pytest's ``tmp_path``: for PostgreSQL under root."""
    with tempfile.TemporaryDirectory(prefix="home-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server that all tests share; nobody stops it."""
    with temporary_server() as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres) -> Databases:
    """Makes databases on the shared server, with the flights loaded once for the session."""
    return Databases(postgres)


@pytest.fixture(scope="session")
def flights_dsn(databases: Databases) -> str:
    """A database with 50,000 flights, the same ones every time, shared and therefore read only."""
    dsn = run_sync(databases.create(flights=True))
    run_sync(databases.make_read_only(dsn))
    return dsn


@pytest.fixture(scope="session")
def flights_frames() -> FlightsFrames:
    """The contents of `flights_dsn`, read from the CSV files by other code."""
    return read_csv_frames(SAMPLE_ROWS)


@pytest.fixture
async def fresh_database(databases: Databases) -> AsyncIterator[FreshDatabase]:
    """Makes databases for this test alone, `await fresh_database(flights=True)`, and drops them after it."""
    made: list[str] = []

    async def make(*, flights: bool = False) -> str:
        made.append(await databases.create(flights=flights))
        return made[-1]

    yield make
    for dsn in made:
        await databases.drop(dsn)


@pytest.fixture
async def pg(fresh_database: FreshDatabase) -> AsyncIterator[Connection]:
    """A connection to an empty database of this test's own."""
    connection = await asyncpg.connect(await fresh_database())
    yield connection
    await connection.close()


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, to stop, kill and restart."""
    with temporary_server() as server:
        yield server


@pytest.fixture(scope="session")
def broker_server(flights_dsn: str, databases: Databases) -> Iterator[RunningBroker]:
    """A broker over `flights_dsn` that all tests share; nobody stops it."""
    jobs_dsn = run_sync(databases.create(flights=False))
    with (
        tempfile.TemporaryDirectory(prefix="broker-") as home,
        running_broker(flights_dsn, Path(home), overrides={"jobs.dsn": jobs_dsn}) as broker,
    ):
        yield broker
