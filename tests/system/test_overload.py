"""More is asked than there are seats: who cannot be served is told at once when to come back, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from querybroker import QueryBrokerError, query
from querybroker.v1 import admin_service_pb2, query_service_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import Connection, Databases, run_sync
from tests.system.conftest import dashboard
from tests.system.secured import LOCK, Secured, as_caller, secured_broker
from tests.system.test_operations import health_stub

LOCKED = query("locked", dimensions=["note"])
COUNT = query("sales", measures=["sales"])
TINY = {
    f"pools.{pool}.{key}": n for pool in ("dashboard", "admin") for key, n in (("in_flight", 1), ("queue", 2))
}


@pytest.fixture(scope="module")
def tiny(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with one seat for dashboards and one for explanations, and room for two who wait."""
    dsn = run_sync(databases.create())
    with secured_broker(dsn, tmp_path_factory.mktemp("tiny"), TINY, worker=False) as place:
        yield place


@pytest.fixture
def fresh(databases: Databases, tmp_path: Path) -> Iterator[Secured]:
    """The same for one test, for what earlier waits would decide otherwise."""
    dsn = run_sync(databases.create())
    with secured_broker(dsn, tmp_path, TINY, worker=False) as place:
        yield place


@pytest.fixture
async def control(tiny: Secured) -> AsyncIterator[Connection]:
    """A connection that may hold what queries wait for."""
    connection = await asyncpg.connect(tiny.dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def fresh_control(fresh: Secured) -> AsyncIterator[Connection]:
    """The same for the broker of one test."""
    connection = await asyncpg.connect(fresh.dsn)
    yield connection
    await connection.close()


async def pool_of(channel: grpc.aio.Channel, name: str) -> admin_service_pb2.PoolState:
    request = admin_service_pb2.GetStateRequest()
    state = (await AdminServiceStub(channel).GetState(request, metadata=as_caller("boss"))).state
    return next(pool for pool in state.pools if pool.name == name)


async def ask(channel: grpc.aio.Channel, name: str, question: object = COUNT) -> str:
    """Asks; the reason of a refusal, which must say when to come back, both to people and to libraries."""
    call = QueryServiceStub(channel).Dashboard(
        dashboard(question),  # type: ignore[arg-type] # a Query
        timeout=19,
        metadata=as_caller(name),
    )
    try:
        response = await call
    except grpc.aio.AioRpcError as error:
        known = QueryBrokerError.from_rpc_error(error)
        pushback = [v for k, v in error.trailing_metadata() or () if k == "grpc-retry-pushback-ms"]
        assert known.code == "UNAVAILABLE"
        assert known.retry_after is not None
        hint = known.retry_after * 1000
        assert [float(ms) for ms in pushback] in ([pytest.approx(hint, abs=1)], [-1.0])
        assert pushback != ["-1"] or known.retry_after > 1.0, "only what takes longer than the caller waits"
        return known.reason
    assert response.panels[0].table.row_count == 1
    return ""


async def test_who_finds_no_seat_and_no_room_to_wait_is_refused_at_once(
    tiny: Secured, control: Connection
) -> None:
    await control.execute(f"SELECT pg_advisory_lock({LOCK})")
    async with tiny.plain() as channel:
        before = await pool_of(channel, "dashboard")
        first = asyncio.create_task(ask(channel, "boss", LOCKED))

        async def taken() -> bool:
            return (await pool_of(channel, "dashboard")).seats_used == 1

        await eventually(taken, "the only seat is taken")
        others = [asyncio.create_task(ask(channel, "alice")) for _ in range(22)]
        done: set[asyncio.Task[str]] = set()
        while len(done) < 20:  # while the seat is held
            finished, _ = await asyncio.wait(set(others) - done, return_when=asyncio.FIRST_COMPLETED)
            done |= finished
        assert Counter(task.result() for task in done) == {"OVERLOADED": 20}
        pool = await pool_of(channel, "dashboard")
        assert (pool.seats_used, pool.queue_length) == (1, 2), (
            "one at work, though its database has seats for more"
        )
        assert pool.refused_count - before.refused_count == 20
        assert {tenant.tenant: tenant.queue_length for tenant in pool.tenants}["acme"] == 2
        asked = health_pb2.HealthCheckRequest(service="querybroker.v1.QueryService")
        health = await health_stub(channel).Check(asked)
        assert health.status == health_pb2.HealthCheckResponse.SERVING, "being busy is not being ill"
        await control.execute(f"SELECT pg_advisory_unlock({LOCK})")
        assert await asyncio.gather(first, *(set(others) - done)) == ["", "", ""]
        after = await pool_of(channel, "dashboard")
        assert (after.seats_used, after.queue_length) == (0, 0)
        assert after.admitted_count - before.admitted_count == 3


async def test_a_tenant_that_fills_the_queue_makes_room_for_another(
    fresh: Secured, fresh_control: Connection
) -> None:
    await fresh_control.execute(f"SELECT pg_advisory_lock({LOCK})")
    async with fresh.plain() as channel:
        first = asyncio.create_task(ask(channel, "boss", LOCKED))

        async def waiting(count: int) -> bool:
            return (await pool_of(channel, "dashboard")).queue_length == count

        async def taken() -> bool:
            return (await pool_of(channel, "dashboard")).seats_used == 1

        await eventually(taken, "the seat is taken")
        older = asyncio.create_task(ask(channel, "alice"))
        await eventually(lambda: waiting(1), "one waits")
        newer = asyncio.create_task(ask(channel, "andy"))  # of the same tenant
        await eventually(lambda: waiting(2), "two wait")
        other = asyncio.create_task(ask(channel, "bob"))
        assert await newer == "OVERLOADED"
        await fresh_control.execute(f"SELECT pg_advisory_unlock({LOCK})")
        assert [await task for task in (first, older, other)] == ["", "", ""]


async def test_a_storm_ends_with_every_seat_free(tiny: Secured) -> None:
    async with tiny.plain() as channel:
        outcomes = Counter(await asyncio.gather(*(ask(channel, "alice") for _ in range(200))))
        pool = await pool_of(channel, "dashboard")
        assert (pool.seats_used, pool.queue_length, pool.worker_task_count) == (0, 0, 0)
        assert outcomes[""] > 0
        assert set(outcomes) <= {"", "OVERLOADED", "QUEUE_TIMEOUT"}
        assert await ask(channel, "alice") == ""


async def test_explanations_have_seats_of_their_own_and_leave_health_checks_a_connection(
    tiny: Secured, control: Connection
) -> None:
    async with tiny.plain() as channel, control.transaction():
        await control.execute("LOCK TABLE sales IN ACCESS EXCLUSIVE MODE")
        request = query_service_pb2.ExplainRequest(query=COUNT)

        async def explain() -> str:
            try:
                await QueryServiceStub(channel).Explain(request, timeout=19, metadata=as_caller("boss"))
            except grpc.aio.AioRpcError as error:
                return QueryBrokerError.from_rpc_error(error).reason
            return ""

        calls = [asyncio.create_task(explain()) for _ in range(5)]

        async def full() -> bool:
            pool = await pool_of(channel, "admin")
            return (pool.seats_used, pool.queue_length) == (1, 2)

        await eventually(full, "one explanation waits for the lock, two for its seat")
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result() for task in done} == {"OVERLOADED"}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (await pool_of(channel, "admin")).connection_limit == 2, "one more than there are seats"
