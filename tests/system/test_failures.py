"""A worker process dies, PostgreSQL goes and comes back, the broker is told to stop: clear errors, then answers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterable

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from querybroker.v1 import query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.processes import left_of
from tests.system.conftest import SLOW, System, dashboard, query


def reason(error: grpc.aio.AioRpcError) -> str:
    """The broker's reason in an error's details."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            assert isinstance(value, bytes)
            Status.FromString(value).details[0].Unpack(info)
            return info.reason
    return ""


async def _ended(stream: AsyncIterable[query_service_pb2.ExploreResponse]) -> grpc.aio.AioRpcError | None:
    """Reads to the end: the error that it ended with, None when it was complete."""
    rows = complete = 0
    try:
        async for event in stream:
            rows += event.batch.row_count
            complete += event.HasField("status")
    except grpc.aio.AioRpcError as error:
        return error
    assert (rows, complete) == (200_000, 1)
    return None


async def test_a_killed_worker_process_costs_at_most_the_query_that_it_served(own_system: System) -> None:
    request = query_service_pb2.ExploreRequest(query=query(dimensions=["id", "note"]))
    async with own_system.channel() as channel:
        stream = QueryServiceStub(channel).Explore(request, timeout=60)
        header = await anext(aiter(stream))
        assert header.HasField("header")
        for worker in own_system.broker.workers():
            worker.send_signal(signal.SIGKILL)
        error = await _ended(stream)
        assert error is None or (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "WORKER_LOST")
        rows = 0
        async for event in QueryServiceStub(channel).Explore(request, timeout=60):
            rows += event.batch.row_count
        assert rows == 200_000


async def test_postgresql_may_go_and_come_back(own_system: System) -> None:
    assert await own_system.answers() == 200_000
    async with own_system.channel() as channel:
        running = asyncio.ensure_future(QueryServiceStub(channel).Dashboard(dashboard(SLOW), timeout=60))

        async def admitted() -> bool:
            return any(pool.seats_used for pool in (await own_system.state()).pools)

        await eventually(admitted, "the slow query runs")
        await asyncio.to_thread(own_system.postgres.stop, "immediate")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running
    assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await own_system.answers()
    assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    await asyncio.to_thread(own_system.postgres.start)

    async def answered() -> bool:
        try:
            return await own_system.answers() == 200_000
        except grpc.aio.AioRpcError:
            return False

    await eventually(answered, "it is found out that the database is back")


async def test_a_broker_that_is_told_to_stop_ends_what_runs_and_leaves_no_process(own_system: System) -> None:
    family = own_system.broker.workers()
    async with own_system.channel() as channel:
        request = query_service_pb2.ExploreRequest(query=query(dimensions=["id", "note"]))
        stream = QueryServiceStub(channel).Explore(request, timeout=60)
        rows = 0
        async for event in stream:
            if event.HasField("header"):
                own_system.broker.process.send_signal(signal.SIGTERM)
            rows += event.batch.row_count
        assert rows == 200_000
    assert await asyncio.to_thread(own_system.broker.process.wait, 60) == 0
    assert await asyncio.to_thread(left_of, family, 10) == []
