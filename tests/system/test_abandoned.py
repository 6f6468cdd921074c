"""Work that nobody waits for any more ends everywhere, and gives back what it held."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable

import grpc
import grpc.aio
import pytest

from querybroker.v1 import query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.system.conftest import SLOW, Activity, System, dashboard, query

CANCELS = 1_000


async def sleeping(activity: Activity) -> None:
    """Waits until PostgreSQL is at work for the broker."""

    async def busy() -> bool:
        return await activity() > 0

    await eventually(busy, "a statement runs")


async def quiet(system: System, activity: Activity) -> None:
    """Waits until nothing runs and nothing is held."""

    async def idle() -> bool:
        pools = (await system.state()).pools
        held = sum(p.seats_used + p.queue_length + p.worker_task_count for p in pools)
        return await activity() == 0 and held == 0

    await eventually(idle, "nothing runs and nothing is held")


async def ask_slowly(channel: grpc.aio.Channel, kind: str, seconds: float | None = None) -> None:
    if kind == "dashboard":
        await QueryServiceStub(channel).Dashboard(dashboard(SLOW), timeout=seconds)
        return
    request = query_service_pb2.ExploreRequest(query=SLOW)
    async for _ in QueryServiceStub(channel).Explore(request, timeout=seconds):
        pass


@pytest.mark.parametrize("kind", ["dashboard", "explore"])
async def test_a_deadline_ends_the_statement_at_the_server(
    system: System, activity: Activity, kind: str
) -> None:
    async with system.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask_slowly(channel, kind, 0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await quiet(system, activity)


@pytest.mark.parametrize("kind", ["dashboard", "explore"])
async def test_a_cancel_ends_the_statement_at_the_server(
    system: System, activity: Activity, kind: str
) -> None:
    async with system.channel() as channel:
        call = asyncio.create_task(ask_slowly(channel, kind))
        await sleeping(activity)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await quiet(system, activity)


async def test_a_client_that_vanishes_ends_the_statement_at_the_server(
    system: System, activity: Activity
) -> None:
    program = (
        "import grpc, sys\n"
        "from querybroker.v1 import query_pb2 as q, query_service_pb2 as s\n"
        "from querybroker.v1.query_service_pb2_grpc import QueryServiceStub\n"
        "slow = q.Query(dataset='slow', measures=['rows'], dimensions=['note'])\n"
        "with grpc.insecure_channel(sys.argv[1]) as channel:\n"
        "    QueryServiceStub(channel).Dashboard(s.DashboardRequest(panels=[s.Panel(query=slow)]))\n"
    )
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", program, system.broker.address)
    await sleeping(activity)
    client.kill()
    await client.wait()
    await quiet(system, activity)


async def test_a_thousand_random_cancels_leak_nothing(
    system: System, activity: Activity, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    rng = random.Random(seed)
    before = await system.state()
    async with system.channel() as channel:
        stub = QueryServiceStub(channel)

        async def one() -> None:
            shapes = [
                query(measures=["events", "total"], dimensions=["kind"]),
                query(measures=["kinds"], dimensions=["kind"]),
                query(measures=["events"], dimensions=["value"]),
            ]
            call = asyncio.ensure_future(_finish(stub, rng.choice(shapes), rng.random() < 0.3))
            await asyncio.sleep(rng.expovariate(1 / 0.02))  # a random moment is what is tested
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

        for _ in range(CANCELS // 20):
            await asyncio.gather(*(one() for _ in range(20)))
    await quiet(system, activity)
    workers = [p.worker_count for p in before.pools]

    async def whole() -> bool:
        return [p.worker_count for p in (await system.state()).pools] == workers

    await eventually(whole, "a worker that was ended with its caller is replaced")
    after = await system.state()
    assert all(p.connection_count <= p.connection_limit for p in after.pools)
    assert await system.answers() == 200_000


async def _finish(stub: QueryServiceStub, asked: object, streamed: bool) -> None:
    if streamed:
        request = query_service_pb2.ExploreRequest(query=asked)  # type: ignore[arg-type] # a Query
        async for _ in stub.Explore(request, timeout=30):  # type: ignore[attr-defined] # the channel is an aio one
            pass
    else:
        await stub.Dashboard(dashboard(asked), timeout=30)  # type: ignore[arg-type,misc] # a Query, an aio channel
