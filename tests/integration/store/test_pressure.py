"""What a real server says about its load, to whom, and what becomes of that when it is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_pressure import PgPressure
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.values import Pressure, Signal
from tests.support.eventually import eventually
from tests.support.pg import Connection
from tests.support.proxy import Way, proxied


class Clock:
    """Time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def reading(dsn: str, clock: Clock | None = None) -> Iterator[PgPressure]:
    pressure = PgPressure("the server", dsn, Settings("pressure under test"), clock or Clock())
    try:
        yield pressure
    finally:
        pressure.close()


@asynccontextmanager
async def busy(dsn: str, *statements: str) -> AsyncIterator[None]:
    """Sessions that execute a statement each until the end."""
    connections = [await asyncpg.connect(dsn) for _ in statements]
    tasks = [
        asyncio.create_task(connection.execute(statement))
        for connection, statement in zip(connections, statements, strict=True)
    ]
    try:
        yield
    finally:
        for task, connection in zip(tasks, connections, strict=True):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await connection.close()


def dsn_of(flights_dsn: str, database: str, role: str = "") -> str:
    parts = urlsplit(flights_dsn)
    user = f"{role}:{role}@" if role else f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"postgresql://{user}{parts.hostname}:{parts.port}/{database}"


async def test_sessions_that_execute_and_those_that_wait_for_a_lock(pg: Connection, flights_dsn: str) -> None:
    (database,) = await pg.fetchrow("SELECT current_database()") or ("",)
    await pg.execute("CREATE TABLE held (x int)")
    with reading(flights_dsn) as pressure:
        before = await pressure.read()
        assert before is not None
        async with pg.transaction():
            await pg.execute("LOCK TABLE held")
            async with busy(
                dsn_of(flights_dsn, database),
                "SELECT count(*) FROM held",
                "SELECT count(*) FROM held",
                "SELECT pg_sleep(600)",
            ):

                async def both() -> bool:
                    now = await pressure.read()
                    return now is not None and (now.active or 0) >= 3 and now.lock_waiting == 2

                await eventually(both, "the waiting sessions are seen")


async def test_a_server_that_goes_away_is_asked_less_and_less_often(flights_dsn: str) -> None:
    clock = Clock()
    async with proxied(flights_dsn) as (proxy, dsn):
        with reading(dsn, clock) as pressure:
            assert isinstance(await pressure.read(), Pressure)
            proxy.way = Way.RESET
            proxy.cut()
            attempts = proxy.attempts
            for _ in range(100):
                assert await pressure.read() is None
                clock.now += 0.5
            assert 3 <= proxy.attempts - attempts <= 7
            proxy.way = Way.THROUGH
            clock.now += 30.0
            assert isinstance(await pressure.read(), Pressure)


async def test_a_silent_server_is_not_waited_for(flights_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.adapters.pg_pressure.TIMEOUT", 0.05)
    async with proxied(flights_dsn) as (proxy, dsn):
        proxy.way = Way.SILENCE
        with reading(dsn) as pressure:
            assert await pressure.read() is None


async def test_a_role_without_the_privilege_sees_its_own_sessions(
    pg: Connection, flights_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    (database,) = await pg.fetchrow("SELECT current_database()") or ("",)
    await pg.execute("CREATE ROLE modest LOGIN PASSWORD 'modest'")
    try:
        own = dsn_of(flights_dsn, database, "modest")
        with caplog.at_level(logging.INFO), reading(own) as pressure:
            others = busy(dsn_of(flights_dsn, database), "SELECT pg_sleep(600)")
            async with others, busy(own, "SELECT pg_sleep(600)"):

                async def one() -> bool:
                    return await pressure.read() == Pressure(active=1, lock_waiting=0, io_waiting=0)

                await eventually(one, "the own session is seen")
        (said,) = [record.message for record in caplog.records if "pg_read_all_stats" in record.message]
        assert said.startswith("the server hides the state of other roles' sessions")
    finally:
        await pg.execute("DROP ROLE modest")


async def test_a_server_that_lacks_something_is_told_of_once_for_each_failure(
    pg: Connection, flights_dsn: str
) -> None:
    (database,) = await pg.fetchrow("SELECT current_database()") or ("",)
    await pg.execute("CREATE ROLE turned_away LOGIN PASSWORD 'turned_away' CONNECTION LIMIT 0")
    told: list[tuple[str, Signal]] = []
    limits = {PoolName.DASHBOARD: PoolLimits(1, 1, connections=1, workers=0)}
    pools = await PgPools.open(dsn_of(flights_dsn, database, "turned_away"), limits)
    try:
        pools.listen(lambda _backend, _change: None, lambda *news: told.append(news))
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await pools.lease(PoolName.DASHBOARD, 5.0)
        assert told == [("primary", Signal.CONNECTION_REFUSED)]
        await pg.execute(
            "ALTER ROLE turned_away CONNECTION LIMIT -1"
        )  # who was turned away may still be counted
        lease = await pools.lease(PoolName.DASHBOARD, 5.0)
        for state in ("53200", "22012"):
            with pytest.raises(asyncpg.PostgresError) as failed:
                await lease.connection.execute(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
            lease.failed(failed.value)
        assert told[1:] == [("primary", Signal.OUT_OF_MEMORY)]
        await pools.end(lease)
    finally:
        await pools.aclose()
        await pg.execute("DROP ROLE turned_away")
