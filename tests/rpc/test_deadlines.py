"""Deadlines and cancels: what the application is given, and that nothing outlives the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import grpc
import pytest

from broker.domain.request import (
    CallContext,
    DashboardAsk,
    DashboardOutcome,
    ExploreAsk,
    ExploreEvent,
    ExploreHeader,
)
from broker.transport.options import TimeLimits
from querybroker.v1 import query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.rpc.fakes import COUNT, NOON
from tests.rpc.raw import reason, refused, status
from tests.rpc.serving import OPTIONS, Serving, serving

QUERY = query_pb2.Query(dataset="flights", measures=["flights"])
REQUEST = query_service_pb2.DashboardRequest(panels=[query_service_pb2.Panel(query=QUERY)])


@pytest.fixture
async def hasty() -> AsyncIterator[Serving]:
    """A server whose dashboards may take 50 ms when the caller says nothing."""
    limits = {"Dashboard": TimeLimits(0.05, 20.0)}
    async with serving(replace(OPTIONS, limits=limits)) as running:
        yield running


class Endless:
    """Work that ends by being cancelled only, and tells when it has begun and ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def dashboard(self, _context: CallContext, _ask: DashboardAsk) -> DashboardOutcome:
        await self._wait()
        raise AssertionError("nobody sets the event")

    async def explore(self, _context: CallContext, _ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        yield ExploreHeader((COUNT,), NOON)
        await self._wait()

    async def _wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def given(broker: Serving, seconds: float | None) -> float:
    """Seconds that the application is given; the wire rounds long timeouts up by less than a hundredth."""
    await QueryServiceStub(broker.channel).Dashboard(REQUEST, timeout=seconds)
    context = broker.queries.contexts[-1]
    return context.deadline.at - asyncio.get_running_loop().time()


async def test_a_call_without_a_deadline_gets_the_default_and_a_long_one_the_cap(broker: Serving) -> None:
    assert 0 < await given(broker, None) <= 10
    assert 10 < await given(broker, 30) <= 30.3
    assert 30.3 < await given(broker, 3_600) <= 60


async def test_work_that_ignores_the_default_deadline_is_stopped(hasty: Serving) -> None:
    endless = Endless()
    hasty.queries.on_dashboard = endless.dashboard
    caught = await refused(
        hasty.channel, "/querybroker.v1.QueryService/Dashboard", REQUEST.SerializeToString()
    )
    assert caught.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason(status(caught)) == "DEADLINE_EXCEEDED"
    assert endless.ended.is_set()


async def test_work_stops_when_the_callers_deadline_passes(broker: Serving) -> None:
    endless = Endless()
    broker.queries.on_dashboard = endless.dashboard
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await QueryServiceStub(broker.channel).Dashboard(REQUEST, timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await endless.ended.wait()


async def test_work_stops_when_the_caller_cancels(broker: Serving) -> None:
    endless = Endless()
    broker.queries.on_dashboard = endless.dashboard
    call = QueryServiceStub(broker.channel).Dashboard(REQUEST)
    pending = asyncio.ensure_future(call)
    await endless.begun.wait()
    call.cancel()
    await endless.ended.wait()
    with pytest.raises(asyncio.CancelledError):
        await pending


async def test_a_stream_stops_when_the_caller_stops_reading(broker: Serving) -> None:
    endless = Endless()
    broker.queries.on_explore = endless.explore
    call = QueryServiceStub(broker.channel).Explore(query_service_pb2.ExploreRequest(query=QUERY))
    async for event in call:
        assert event.HasField("header")
        break
    await endless.begun.wait()
    call.cancel()
    await endless.ended.wait()


async def test_a_stream_stops_when_the_caller_vanishes(broker: Serving) -> None:
    endless = Endless()
    broker.queries.on_explore = endless.explore
    async with grpc.aio.insecure_channel(broker.address) as channel:
        call = QueryServiceStub(channel).Explore(query_service_pb2.ExploreRequest(query=QUERY))
        assert (await anext(aiter(call))).HasField("header")
        await endless.begun.wait()
    await endless.ended.wait()


async def test_slow_readers_slow_the_application_down(broker: Serving) -> None:
    produced = 0
    released = asyncio.Event()

    async def flood(_context: CallContext, _ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        nonlocal produced
        try:
            while True:
                yield ExploreHeader((replace(COUNT, unit="x" * 1_000_000),), NOON)
                produced += 1
        finally:
            released.set()

    broker.queries.on_explore = flood
    call = QueryServiceStub(broker.channel).Explore(query_service_pb2.ExploreRequest(query=QUERY))
    for _ in range(3):
        assert await call.read()
    call.cancel()
    await released.wait()
    assert produced < 50
