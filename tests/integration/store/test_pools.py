"""Connections: how they are set up, lost, found again, and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_store import PgStore
from broker.demo.embedded import EmbeddedPostgres
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolLimits, PoolName
from tests.integration.store.conftest import CLOCK, MakeStore, Watcher, in_time, plan_of, read
from tests.integration.store.types_dataset import CATALOG, COUNT, SLEEP
from tests.support.eventually import eventually
from tests.support.pg import run_sync

MakePools = Callable[..., Awaitable[PgPools]]


async def test_sessions_are_read_only_and_set_up(make_pools: MakePools, flights_dsn: str) -> None:
    pools = await make_pools(flights_dsn)
    lease = await pools.lease(PoolName.DASHBOARD, 10.0)
    shown = {
        name: await lease.connection.fetchval(f"SHOW {name}")
        for name in (
            "default_transaction_read_only",
            "timezone",
            "jit",
            "plan_cache_mode",
            "application_name",
        )
    }
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await lease.connection.execute("CREATE TABLE x (a int)")
    await pools.end(lease)
    assert shown == {
        "default_transaction_read_only": "on",
        "timezone": "UTC",
        "jit": "off",
        "plan_cache_mode": "force_custom_plan",
        "application_name": "store under test",
    }


async def test_texts_of_values_do_not_depend_on_what_is_set_for_the_role(
    make_pools: MakePools, flights_dsn: str
) -> None:
    odd = "datestyle=SQL,%20DMY&intervalstyle=sql_standard&bytea_output=escape&extra_float_digits=-3"
    pools = await make_pools(f"{flights_dsn}?{odd}&timezone=Asia/Tokyo&standard_conforming_strings=off")
    lease = await pools.lease(PoolName.DASHBOARD, 10.0)
    texts = await lease.connection.fetchrow(
        "SELECT date '2013-02-01'::text, timestamptz '2013-02-01 00:00+00'::text, interval '1 mon 2 s'::text, "
        r"'\x41'::bytea::text, (0.1::float8 + 0.2)::text, '03/02/2013'::date::text"
    )
    await pools.end(lease)
    assert texts is not None
    assert tuple(texts) == (
        "2013-02-01", "2013-02-01 00:00:00+00", "1 mon 00:00:02", r"\x41", "0.30000000000000004", "2013-02-03",
    )  # fmt: skip


async def test_how_long_and_how_apart_statements_run_is_not_for_the_role_to_say(
    make_pools: MakePools, flights_dsn: str
) -> None:
    odd = (
        "statement_timeout=60000&default_transaction_isolation=serializable&default_transaction_deferrable=on"
    )
    pools = await make_pools(f"{flights_dsn}?{odd}")
    lease = await pools.lease(PoolName.DASHBOARD, 10.0)
    names = "statement_timeout", "transaction_isolation", "transaction_deferrable"
    shown = [await lease.connection.fetchval(f"SHOW {name}") for name in names]
    await pools.end(lease)
    assert shown == ["0", "read committed", "off"]


async def test_nothing_of_one_use_is_left_for_the_next(flights_dsn: str, make_store: MakeStore) -> None:
    store = await make_store(flights_dsn, connections=1)
    shown = []
    for _ in range(2):
        async with store.snapshot(PoolName.DASHBOARD, in_time(7.0)) as snapshot:
            pass
        lease = await store._pools.lease(PoolName.DASHBOARD, 10.0)
        shown.append(
            (
                lease.connection.get_server_pid(),
                await lease.connection.fetchval("SHOW statement_timeout"),
                lease.connection.is_in_transaction(),
            )
        )
        await store._pools.end(lease)
        assert snapshot.lease.connection is not lease.connection
    assert shown[0] == shown[1]
    assert shown[0][1:] == ("0", False)


async def test_a_connection_in_an_unknown_state_is_closed(make_pools: MakePools, flights_dsn: str) -> None:
    pools = await make_pools(flights_dsn, connections=1)
    lease = await pools.lease(PoolName.DASHBOARD, 10.0)
    pid = lease.connection.get_server_pid()
    lease.connection._con._transport.abort()  # type: ignore[attr-defined] # as a firewall would
    await pools.end(lease)
    again = await pools.lease(PoolName.DASHBOARD, 10.0)
    assert again.connection.get_server_pid() != pid
    await pools.end(again)


async def test_pools_are_apart(flights_dsn: str, make_store: MakeStore) -> None:
    store = await make_store(flights_dsn, connections=1)
    async with store.snapshot(PoolName.EXPLORATION, in_time()):
        with pytest.raises(BrokerError) as caught:
            async with store.snapshot(PoolName.EXPLORATION, in_time(0.05)):
                raise AssertionError("the pool has one connection")
        assert caught.value.reason is ErrorReason.DEADLINE_EXCEEDED
        async with store.snapshot(PoolName.DASHBOARD, in_time()):
            pass
    async with store.snapshot(PoolName.EXPLORATION, in_time()):
        pass


async def end_sessions(dsn: str) -> int:
    """Ends the broker's sessions of a database, and says how many there were."""
    admin = await asyncpg.connect(dsn, server_settings={"application_name": "admin"})
    ended = await admin.fetchval(
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity "
        "WHERE application_name = 'store under test' AND datname = current_database()"
    )
    await admin.close()
    return int(ended)


async def test_a_connection_that_died_while_idle_costs_nothing(
    flights_dsn: str, make_store: MakeStore
) -> None:
    store = await make_store(flights_dsn)
    expected = await read(store, COUNT, CATALOG)
    for _ in range(3):
        assert await end_sessions(flights_dsn) == 1
        assert await read(store, COUNT, CATALOG) == expected


async def test_a_dead_connection_is_found_out_by_using_it(flights_dsn: str, make_store: MakeStore) -> None:
    """The loop is held up while the sessions end, so nobody has told the pool when the next read begins."""
    store = await make_store(flights_dsn)
    async with (
        store.snapshot(PoolName.DASHBOARD, in_time()) as first,
        store.snapshot(PoolName.DASHBOARD, in_time()) as second,
    ):
        pids = {s.lease.connection.get_server_pid() for s in (first, second)}
    for _ in range(3):
        assert run_sync(end_sessions(flights_dsn)) > 0
        async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
            assert snapshot.lease.connection.get_server_pid() not in pids
            assert not snapshot.lease.connection.is_closed()


async def test_a_connection_that_dies_at_work_is_a_clear_error(
    flights_dsn: str, make_store: MakeStore, watcher: Watcher
) -> None:
    store = await make_store(flights_dsn)
    task = asyncio.create_task(read(store, SLEEP, CATALOG))
    await eventually(watcher.something_sleeps, "the statement runs")
    await watcher.connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'store under test' AND datname = current_database()"
    )
    with pytest.raises(BrokerError) as caught:
        await task
    assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert caught.value.retry_after is not None
    assert await read(store, COUNT, CATALOG)


async def test_somebody_else_cancels_the_statement(
    flights_dsn: str, make_store: MakeStore, watcher: Watcher
) -> None:
    store = await make_store(flights_dsn)
    task = asyncio.create_task(read(store, SLEEP, CATALOG))
    await eventually(watcher.something_sleeps, "the statement runs")
    await watcher.connection.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'store under test' AND datname = current_database()"
    )
    with pytest.raises(BrokerError) as caught:
        await task
    assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert caught.value.metadata["sqlstate"] == "57014"


async def test_capacity_counts_every_pool_of_a_server(
    postgres: EmbeddedPostgres, make_pools: MakePools
) -> None:
    fitting = await (await make_pools(postgres.dsn(), connections=3)).check()
    (capacity,) = fitting
    assert (capacity.wanted, capacity.fits, capacity.message) == (12, True, "")
    assert capacity.max_connections == 200
    assert capacity.reserved >= 3
    (too_many,) = await (await make_pools(postgres.dsn(), connections=100)).check()
    assert not too_many.fits
    assert "400" in too_many.message
    assert "max_connections" in too_many.message


async def test_capacity_sees_others_and_the_limit_of_the_database(
    postgres: EmbeddedPostgres, make_pools: MakePools, fresh_database: Callable[[], Awaitable[str]]
) -> None:
    dsn = await fresh_database()
    pools = await make_pools(dsn, connections=3)
    (before,) = await pools.check()
    other = await asyncpg.connect(dsn)
    more = [await asyncpg.connect(dsn) for _ in range(4)]
    (after,) = await pools.check()
    assert after.others >= 5
    await other.execute(f"ALTER DATABASE {dsn.rpartition('/')[2]} CONNECTION LIMIT 10")
    (limited,) = await pools.check()
    assert (before.own_limit, limited.own_limit, limited.available, limited.fits) == (None, 10, 10, False)
    assert "10 for the broker's role or database" in limited.message
    for connection in (other, *more):
        await connection.close()


async def test_a_pool_may_have_a_server_of_its_own(
    postgres: EmbeddedPostgres, flights_dsn: str, make_store: MakeStore
) -> None:
    store = await make_store(flights_dsn, replica=postgres.dsn())
    first, second = await store._pools.check()
    assert second.pools == (PoolName.JOB,)
    assert PoolName.JOB not in first.pools
    async with store.snapshot(PoolName.JOB, in_time()) as snapshot:
        assert snapshot.lease.replica
        assert snapshot.replica_lag is None  # it is no standby
        assert await snapshot.lease.connection.fetchval("SELECT current_database()") == "postgres"


async def test_closing_waits_for_what_is_being_given_back(flights_dsn: str, watcher: Watcher) -> None:
    limits = {name: PoolLimits(1, 1, 1, 1) for name in PoolName}
    pools = await PgPools.open(flights_dsn, limits, Settings("store under test", patience=20.0))
    store = PgStore(pools, CLOCK)

    async def work() -> None:
        async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
            await snapshot.read(plan_of(SLEEP, CATALOG))

    task = asyncio.create_task(work())
    await eventually(watcher.something_sleeps, "the statement runs")
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # nobody waits for the connection any more, but the pools
    await asyncio.wait([task])
    await pools.aclose()
    await eventually(lambda: _gone(watcher), "no session is left")


async def _gone(watcher: Watcher) -> bool:
    return await watcher.sessions() == 0
