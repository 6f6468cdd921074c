"""Calls that are refused before they are read, and streams that the server ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.domain.answer import Batch
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName
from broker.domain.principal import Criticality, Principal
from broker.domain.request import CallContext, ExploreAsk, ExploreEvent, ExploreHeader
from broker.telemetry.instruments import Telemetry
from broker.transport.drain import Gate
from querybroker.v1 import catalog_service_pb2, query_pb2, query_service_pb2
from querybroker.v1.catalog_service_pb2_grpc import CatalogServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.rpc.fakes import COUNT, KEY, NOON
from tests.rpc.raw import detail, reason, refused, send, status, trailers
from tests.rpc.serving import OPTIONS, serving
from tests.support.metrics import read

QUERY = query_pb2.Query(dataset="flights", measures=["flights"])
DASHBOARD = query_service_pb2.DashboardRequest(panels=[query_service_pb2.Panel(query=QUERY)])
EXPLORE = query_service_pb2.ExploreRequest(query=QUERY)
SERVICE = "/querybroker.v1.QueryService/"
GARBAGE = b"\xff\xff\xff"
KEYED = (("authorization", f"Bearer {KEY}"),)


class Closed:
    """A door that lets nobody in, and remembers who came."""

    def __init__(self) -> None:
        self.came: list[tuple[PoolName, str, Criticality]] = []
        self.left: list[float] = []

    def __call__(self, pool: PoolName, principal: Principal, left: float) -> BrokerError:
        self.left.append(left)
        self.came.append((pool, principal.tenant, principal.criticality))
        return BrokerError(
            ErrorReason.OVERLOADED,
            "The loop lags.",
            retry_after=1.0,
            metadata={"limiting_factor": "loop_lag"},
        )


@pytest.mark.parametrize(
    ("method", "pool"),
    [("Dashboard", PoolName.DASHBOARD), ("Explore", PoolName.EXPLORATION), ("Explain", PoolName.ADMIN)],
)
async def test_a_call_is_refused_before_it_is_read(method: str, pool: PoolName) -> None:
    door = Closed()
    async with serving(door=door) as broker:
        caught = await refused(broker.channel, SERVICE + method, GARBAGE, streaming=method == "Explore")
        assert broker.queries.asks == []
    assert caught.code() is grpc.StatusCode.UNAVAILABLE
    assert not caught.initial_metadata(), "headers would end the client library's chance of a retry"
    known = trailers(caught)
    assert known["grpc-retry-pushback-ms"] == "1000"
    found = status(caught)
    info, retry = detail(found, error_details_pb2.ErrorInfo), detail(found, error_details_pb2.RetryInfo)
    assert info is not None
    assert (info.reason, dict(info.metadata)) == ("OVERLOADED", {"limiting_factor": "loop_lag"})
    assert retry is not None
    assert retry.retry_delay.seconds == 1
    request = detail(found, error_details_pb2.RequestInfo)
    assert request is not None
    assert request.request_id == known["querybroker-request-id"] != ""
    assert door.came == [(pool, "default", Criticality.CRITICAL)]


async def test_the_door_knows_who_asks_and_how_urgently() -> None:
    door = Closed()
    async with serving(door=door) as broker:
        stub = QueryServiceStub(broker.channel)
        metadata = (*KEYED, ("querybroker-criticality", "sheddable"), ("x-request-id", "mine"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Dashboard(DASHBOARD, metadata=metadata, timeout=7)
    assert door.came == [(PoolName.DASHBOARD, "acme", Criticality.SHEDDABLE)]
    assert 0 < door.left[0] <= 7.1
    assert trailers(caught.value)["querybroker-request-id"] == "mine"


async def test_who_cannot_be_identified_is_told_so_and_not_that_the_server_is_busy() -> None:
    door = Closed()
    async with serving(door=door, anonymous=None) as broker:
        caught = await refused(broker.channel, SERVICE + "Dashboard", DASHBOARD.SerializeToString())
        assert reason(status(caught)) == "UNAUTHENTICATED"
    async with serving(door=door) as broker:
        metadata = (("querybroker-criticality", "extreme"),)
        with pytest.raises(grpc.aio.AioRpcError) as wrong:
            await QueryServiceStub(broker.channel).Dashboard(DASHBOARD, metadata=metadata)
        assert reason(status(wrong.value)) == "INVALID_REQUEST"
    assert door.came == []


async def test_calls_that_take_no_seat_pass_a_closed_door() -> None:
    async with serving(door=Closed()) as broker:
        stub = CatalogServiceStub(broker.channel)
        found = await stub.ListDatasets(catalog_service_pb2.ListDatasetsRequest())
        assert len(found.datasets) > 0


async def test_refusals_at_the_door_are_counted_like_other_calls() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    async with serving(door=Closed(), telemetry=Telemetry(NoOpTracerProvider(), meters)) as broker:
        await refused(broker.channel, SERVICE + "Dashboard", GARBAGE)
    calls = read(reader)["rpc.server.call.duration"]
    meters.shutdown()
    assert set(calls) == {("OVERLOADED", "querybroker.v1.QueryService/Dashboard", "UNAVAILABLE", "grpc")}


class Torrent:
    """A stream that never ends by itself, though it may have ``most`` batches."""

    def __init__(self, size: int, most: int | None = None) -> None:
        self.batch = bytes(size)
        self.most = most
        self.ended = asyncio.Event()
        self.count = 0

    async def explore(self, _context: CallContext, _ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        try:
            yield ExploreHeader((COUNT,), NOON)
            while self.count != self.most:
                self.count += 1
                yield Batch(0, 1, b"\x1a" + _length(len(self.batch)) + self.batch)
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def _length(number: int) -> bytes:
    return bytes([number & 0x7F]) if number < 128 else bytes([number & 0x7F | 0x80]) + _length(number >> 7)


async def drained(call: grpc.aio.UnaryStreamCall[Any, Any]) -> None:
    """Reads what is left of a stream."""
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_a_stream_that_nobody_reads_is_ended() -> None:
    async with serving(replace(OPTIONS, stall_limit=0.2)) as broker:
        torrent = Torrent(256 * 1024)
        broker.queries.on_explore = torrent.explore
        call = QueryServiceStub(broker.channel).Explore(EXPLORE, timeout=30)
        await call.read()
        await torrent.ended.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await drained(call)
    found = status(caught.value)
    info = detail(found, error_details_pb2.ErrorInfo)
    assert info is not None
    assert info.reason == "DEADLINE_EXCEEDED"
    assert info.metadata["limiting_factor"] == "slow_reader"
    assert "The reader made no room in the stream for 0.2 s" in found.message


async def test_the_largest_stream_is_ended_first() -> None:
    gate = Gate()
    short = BrokerError(ErrorReason.OVERLOADED, "Memory is short.", retry_after=1.0)
    async with serving(gate=gate) as broker:
        assert gate.cut(short) == 0
        stub = QueryServiceStub(broker.channel)
        small, large = Torrent(100, most=2), Torrent(100_000)
        calls = []
        for torrent in (small, large):
            broker.queries.on_explore = torrent.explore
            call = stub.Explore(EXPLORE, timeout=30)
            for _ in range(3):  # by the second batch the first one is counted
                await call.read()
            calls.append(call)
        assert gate.cut(short) > 100
        await large.ended.wait()
        assert not small.ended.is_set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await drained(calls[1])
        assert reason(status(caught.value)) == "OVERLOADED"
        calls[0].cancel()
        await small.ended.wait()


async def test_a_stream_that_ends_while_its_first_response_is_written_says_why() -> None:
    gate = Gate()

    async def explore(_context: CallContext, _ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        asyncio.get_running_loop().call_soon(gate.end)  # comes after the write begins, before it is done
        yield ExploreHeader((COUNT,), NOON)
        await asyncio.Event().wait()

    async with serving(gate=gate) as broker:
        broker.queries.on_explore = explore
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await drained(QueryServiceStub(broker.channel).Explore(EXPLORE, timeout=30))
        assert reason(status(caught.value)) == "DRAINING"


async def test_the_size_of_a_request_reaches_the_application() -> None:
    async with serving() as broker:
        request = DASHBOARD.SerializeToString()
        await send(broker.channel, SERVICE + "Dashboard", request)
        assert broker.queries.contexts[-1].payload == len(request)
