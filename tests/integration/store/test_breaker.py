"""The breaker and the retries before a real PostgreSQL, behind a proxy that breaks connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random

import asyncpg
import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from broker.adapters.pg_connection import Lease, Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_store import PgStore
from broker.app.backends import Backends, backends_of
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.state import Breaker
from broker.telemetry.instruments import Telemetry
from tests.integration.store.conftest import CLOCK, in_time, plan_of, read
from tests.integration.store.types_dataset import CATALOG, COUNT, SLEEP
from tests.support.eventually import eventually
from tests.support.metrics import read as read_metrics
from tests.support.proxy import Proxy, Way, proxied

SETTINGS = Settings("store under test", connect_timeout=20.0, patience=1.0)
RETRIES = "querybroker.backend.retries"
REJECTIONS = "querybroker.backend.breaker.rejections"


class Place:
    """Pools and a store behind a proxy."""

    def __init__(self, proxy: Proxy, pools: PgPools) -> None:
        self.proxy, self.pools = proxy, pools
        self.store = PgStore(pools, CLOCK)

    @property
    def state(self) -> Breaker:
        return self.pools.guard(PoolName.DASHBOARD).state

    async def ask(self, times: int = 1) -> list[BrokerError | None]:
        """Reads, one after the other: the errors."""
        found: list[BrokerError | None] = []
        for _ in range(times):
            try:
                await read(self.store, COUNT, CATALOG)
            except BrokerError as error:
                found.append(error)
            else:
                found.append(None)
        return found

    async def answers(self) -> bool:
        return await self.ask() == [None]


@pytest.fixture
async def place(flights_dsn: str, telemetry: Telemetry) -> AsyncIterator[Place]:
    async with proxied(flights_dsn) as (proxy, dsn):
        limits = {name: PoolLimits(8, 8, 8, 1) for name in (PoolName.DASHBOARD, PoolName.ADMIN)}
        pools = await PgPools.open(dsn, limits, SETTINGS, telemetry, random=Random(1))
        yield Place(proxy, pools)
        await pools.aclose()


async def test_a_connection_that_fails_once_is_made_again_unseen(
    place: Place, reader: InMemoryMetricReader
) -> None:
    place.proxy.reset_next(1)
    assert await place.ask() == [None]
    assert place.proxy.attempts == 2
    assert read_metrics(reader)[RETRIES] == {("primary", "retried"): 1}


async def test_a_database_that_is_away_is_left_alone_and_the_error_says_why(
    place: Place, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    assert await place.ask() == [None]
    place.proxy.way = Way.RESET
    place.proxy.cut()
    before = place.proxy.attempts
    errors = await place.ask(200)
    attempts = place.proxy.attempts - before
    assert all(e is not None and e.reason is ErrorReason.STORE_UNAVAILABLE for e in errors)
    assert all(e is not None and e.retry_after is not None and 0 < e.retry_after <= 5 for e in errors)
    # Five failures open it; after that there are single trials, fewer and fewer.
    assert 5 <= attempts <= 40
    refused = [e for e in errors if e is not None and e.metadata.get("breaker") == "open"]
    assert len(refused) >= 160
    assert "'primary' cannot answer" in refused[-1].message
    assert "connection" in refused[-1].message
    assert refused[-1].metadata["backend"] == "primary"
    assert refused[-1].metadata["error"]
    assert read_metrics(reader)[REJECTIONS] == {("primary", "refused"): len(refused)}
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING and "left alone" in r.getMessage()]
    assert len(warnings) == 1  # however often it was tried in vain

    place.proxy.way = Way.THROUGH
    await eventually(place.answers, "the breaker closes")
    assert await place.ask(20) == [None] * 20
    assert place.state is Breaker.CLOSED


async def test_many_callers_at_once_do_not_multiply_the_load_on_a_database_that_is_away(
    place: Place, reader: InMemoryMetricReader
) -> None:
    place.proxy.way = Way.RESET
    for _ in range(10):
        results = await asyncio.gather(*(place.ask() for _ in range(50)))
        assert all(error is not None for (error,) in results)
    # There were 500 callers, and each would have had three attempts; eight connections can fail side by side.
    assert place.proxy.attempts <= 25


async def test_connections_that_nothing_answers_open_it_though_every_caller_gave_up_first(
    place: Place,
) -> None:
    place.proxy.way = Way.SILENCE

    async def impatient() -> ErrorReason:
        with pytest.raises(BrokerError) as caught:
            async with place.store.snapshot(PoolName.DASHBOARD, in_time(1.2)):
                raise AssertionError("nothing answers")
        return caught.value.reason

    reasons = await asyncio.gather(*(impatient() for _ in range(6)))
    assert set(reasons) == {ErrorReason.DEADLINE_EXCEEDED}
    assert place.state is Breaker.OPEN
    (error,) = await place.ask()
    assert error is not None
    assert "not connected" in error.message


async def test_callers_faults_deadlines_and_cancels_do_not_count(place: Place) -> None:
    async def broken(lease: Lease) -> object:
        return await lease.connection.fetchval("SELECT 1 / 0")

    async def late(lease: Lease) -> None:
        async with asyncio.timeout(0.001):
            await lease.connection.execute("SELECT pg_sleep(10)")

    for _ in range(30):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await place.pools.begin(PoolName.DASHBOARD, 10.0, broken)
        with pytest.raises(TimeoutError):
            await place.pools.begin(PoolName.DASHBOARD, 10.0, late)
        task = asyncio.create_task(read(place.store, SLEEP, CATALOG))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert place.state is Breaker.CLOSED
    assert await place.ask() == [None]


async def test_waiting_for_a_connection_in_vain_does_not_count(place: Place) -> None:
    async with asyncio.timeout(60):
        leases = [await place.pools.lease(PoolName.DASHBOARD, 10.0) for _ in range(8)]
    for _ in range(10):
        with pytest.raises(BrokerError) as caught:
            async with place.store.snapshot(PoolName.DASHBOARD, in_time(0.02)):
                raise AssertionError("all connections are taken")
        assert caught.value.reason is ErrorReason.DEADLINE_EXCEEDED
    assert place.state is Breaker.CLOSED
    for lease in leases:
        await place.pools.end(lease)


async def test_a_deadline_does_not_cost_the_connections_of_others(place: Place) -> None:
    """A timer's TimeoutError is a kind of OSError, but nothing was lost."""
    lease = await place.pools.lease(PoolName.DASHBOARD, 10.0)
    pid = lease.connection.get_server_pid()

    async def late(other: Lease) -> None:
        await place.pools.end(lease)
        async with asyncio.timeout(0.01):
            await other.connection.execute("SELECT pg_sleep(10)")

    with pytest.raises(TimeoutError):
        await place.pools.begin(PoolName.DASHBOARD, 10.0, late)
    again = [await place.pools.lease(PoolName.DASHBOARD, 10.0) for _ in range(8)]
    assert pid in {other.connection.get_server_pid() for other in again}
    for other in again:
        await place.pools.end(other)


async def test_a_read_that_loses_to_another_transaction_is_begun_again_within_the_budget(
    place: Place, reader: InMemoryMetricReader
) -> None:
    begun = 0

    async def conflicts(_: Lease) -> None:
        nonlocal begun
        begun += 1
        raise asyncpg.SerializationError("canceling statement due to conflict with recovery")

    with pytest.raises(asyncpg.SerializationError):
        await place.pools.begin(PoolName.DASHBOARD, 10.0, conflicts)
    assert begun == 3
    for _ in range(30):
        with pytest.raises(asyncpg.SerializationError):
            await place.pools.begin(PoolName.DASHBOARD, 10.0, conflicts)
    calls, told = 31, read_metrics(reader)[RETRIES]
    assert told["primary", "retried"] == begun - calls
    assert (
        told["primary", "budget"] > 0
    )  # ten tokens, a tenth for each call, and one for each second that passed
    assert place.state is Breaker.CLOSED


async def test_no_retry_passes_the_deadline(place: Place, reader: InMemoryMetricReader) -> None:
    async def conflicts(_: Lease) -> None:
        raise asyncpg.SerializationError

    with pytest.raises(asyncpg.SerializationError):
        await place.pools.begin(PoolName.DASHBOARD, 0.5, conflicts)
    assert read_metrics(reader)[RETRIES].keys() <= {
        ("primary", "deadline"),
        ("primary", "retried"),
        ("primary", "attempts"),
    }


async def test_the_check_closes_the_breaker_without_any_caller(place: Place) -> None:
    every = backends_of({PoolName.ADMIN: PoolLimits(2, 2, 2, 1)}, {})
    backends = Backends(place.store, place.pools.guard, CLOCK, 5.0, every)
    await backends.check()
    place.proxy.way = Way.RESET
    place.proxy.cut()
    for _ in range(5):
        with pytest.raises(BrokerError):
            await backends.check()
    (state,) = backends.states(())
    assert state.breaker is Breaker.OPEN
    assert "connection" in state.last_error
    place.proxy.way = Way.THROUGH

    async def closed() -> bool:
        try:
            await backends.check()
        except BrokerError:
            return False
        return True

    await eventually(closed, "a check finds the database")
    (state,) = backends.states(())
    assert (state.breaker, state.last_error) == (Breaker.CLOSED, "")


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_faults_deadlines_and_cancels_leave_nothing_behind(place: Place, seed: int) -> None:
    random = Random(seed)
    running: list[asyncio.Task[None]] = []

    async def work() -> None:
        with suppress(BrokerError):
            seconds = random.choice([0.001, 0.05, 10.0])
            async with place.store.snapshot(PoolName.DASHBOARD, in_time(seconds)) as snapshot:
                await snapshot.read(plan_of(COUNT, CATALOG))

    for _ in range(400):
        place.proxy.way = random.choice([Way.THROUGH, Way.THROUGH, Way.THROUGH, Way.RESET, Way.SILENCE])
        if random.random() < 0.05:
            place.proxy.cut()
        running.append(asyncio.create_task(work()))
        if random.random() < 0.2:
            random.choice(running).cancel()
        await asyncio.sleep(random.choice([0.0, 0.001]))
    place.proxy.way = Way.THROUGH
    place.proxy.cut()  # ends the silence
    await asyncio.wait(running)
    await eventually(place.answers, "the breaker closes: no trial is left under way")
    leases = [await place.pools.lease(PoolName.DASHBOARD, 10.0) for _ in range(8)]  # none is lost
    for lease in leases:
        await place.pools.end(lease)
    assert all(task.cancelled() or task.exception() is None for task in running)
