"""Connections that are kept for the next statement: who gets them, and when the pool has them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from broker.adapters.pg_connection import BrokerConnection
from broker.adapters.pg_kept import Kept
from broker.adapters.pg_pool import PgPools
from broker.domain.pool import PoolName
from tests.support.eventually import eventually

LONG = 600.0
"""Seconds that no test takes: only other reasons have the pool get a connection back."""
MakeKept = Callable[[float], Awaitable[Kept]]


@pytest.fixture
async def make_kept(flights_dsn: str) -> AsyncIterator[MakeKept]:
    """Makes what keeps the connections of a pool of two."""
    made: list[Kept] = []

    async def make(hold: float) -> Kept:
        pool = await asyncpg.create_pool(
            flights_dsn, min_size=0, max_size=2, connection_class=BrokerConnection
        )
        made.append(Kept(pool, hold))
        return made[-1]

    yield make
    for kept in made:
        kept.pool.terminate()


async def test_the_one_used_last_is_taken_first(make_kept: MakeKept) -> None:
    kept = await make_kept(LONG)
    first, second = await kept.take(), await kept.take()
    for proxy in (first, second):
        await kept.give_back(proxy, kept.epoch)
    assert (kept.free, kept.pool.get_idle_size(), kept.pool.get_size()) == (2, 0, 2)
    assert await kept.take() is second
    assert await kept.take() is first


async def test_who_waits_for_a_connection_gets_the_next_one(make_kept: MakeKept) -> None:
    kept = await make_kept(LONG)
    used = [await kept.take() for _ in range(2)]
    waiting = asyncio.create_task(kept.take())
    await asyncio.sleep(0)  # it waits
    await kept.give_back(used[0], kept.epoch)
    got = await waiting
    assert await got.fetchval("SELECT 1") == 1
    assert kept.free == 0
    gone = asyncio.create_task(kept.take())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    await kept.give_back(used[1], kept.epoch)
    assert kept.free == 1  # nobody waits any more


async def test_what_nobody_takes_goes_back_to_the_pool(make_kept: MakeKept) -> None:
    kept = await make_kept(0.05)
    first, second = await kept.take(), await kept.take()
    await kept.give_back(first, kept.epoch)

    async def idle() -> bool:
        return (kept.free, kept.pool.get_idle_size()) == (0, 1)

    await eventually(idle, "the first one is given back")
    await kept.give_back(second, kept.epoch)
    await eventually(lambda: _holds(kept.pool.get_idle_size() == 2), "and later the second")


async def test_a_connection_that_died_meanwhile_is_not_given_to_anybody(
    make_kept: MakeKept, flights_dsn: str
) -> None:
    kept = await make_kept(LONG)
    proxy = await kept.take()
    pid = proxy.get_server_pid()
    await kept.give_back(proxy, kept.epoch)
    other = await asyncpg.connect(flights_dsn)
    await other.execute("SELECT pg_terminate_backend($1)", pid)
    await other.close()
    await eventually(lambda: _holds(kept.pool.get_size() == 0), "the end of the connection is known here")
    again = await kept.take()
    assert again.get_server_pid() != pid
    again.terminate()
    await kept.give_back(again, kept.epoch)
    assert kept.free == 0


async def test_after_the_loss_of_the_server_nothing_from_before_is_kept(make_kept: MakeKept) -> None:
    kept = await make_kept(LONG)
    used, free = await kept.take(), await kept.take()
    epoch = kept.epoch
    await kept.give_back(free, epoch)
    kept.drop()
    await kept.pool.expire_connections()
    await kept.give_back(used, epoch)
    assert kept.free == 0
    await eventually(lambda: _holds(kept.pool.get_size() == 0), "both are closed")


async def test_closing_waits_until_the_pool_has_everything_back(make_kept: MakeKept) -> None:
    kept = await make_kept(LONG)
    used, free = await kept.take(), await kept.take()
    await kept.give_back(free, kept.epoch)
    await kept.aclose()
    assert kept.pool.get_idle_size() == 1
    await kept.give_back(used, kept.epoch)
    assert (kept.free, kept.pool.get_idle_size()) == (0, 2)
    await kept.pool.close()


async def test_pools_count_what_is_kept_as_idle_and_close_it(
    make_pools: Callable[..., Awaitable[PgPools]], flights_dsn: str
) -> None:
    pools = await make_pools(flights_dsn)
    lease = await pools.lease(PoolName.DASHBOARD, 10.0)
    pid = lease.connection.get_server_pid()
    assert _idle(pools) == 0
    await lease.give_back()
    assert _idle(pools) == 1
    with pytest.raises(AttributeError):
        lease.connection.get_server_pid()
    again = await pools.lease(PoolName.DASHBOARD, 10.0)
    assert again.connection.get_server_pid() == pid
    await again.give_back()
    await pools.aclose()
    other = await asyncpg.connect(flights_dsn)
    gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)"
    await eventually(lambda: other.fetchval(gone, pid), "the connection is closed")
    await other.close()


def _idle(pools: PgPools) -> int:
    found = {tuple(labels.values()): count for count, labels in pools._counts()}
    return round(found[PoolName.DASHBOARD.value, "idle"])


async def _holds(fact: bool) -> bool:
    return fact
