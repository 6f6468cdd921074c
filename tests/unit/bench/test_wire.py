"""The client of the benchmarks against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from tests.bench.parts.senders import fate_of
from tests.bench.parts.traffic import Fate
from tests.bench.parts.wire import INITIAL, LOST, TIMED_OUT, Connection, connect

Context = grpc.aio.ServicerContext[bytes, bytes]


class Service(grpc.GenericRpcHandler):
    """Echoes, streams, refuses, or never answers, by method."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.left: float | None = None
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        self.metadata = dict(details.invocation_metadata)
        if details.method == "/t.T/Stream":
            return grpc.unary_stream_rpc_method_handler(self.stream)
        return grpc.unary_unary_rpc_method_handler(getattr(self, details.method.rpartition("/")[2].lower()))

    async def echo(self, request: bytes, context: Context) -> bytes:
        self.left = context.time_remaining()
        return request

    async def stream(self, request: bytes, context: Context) -> None:
        for _ in range(3):
            await context.write(request)

    async def refuse(self, _request: bytes, context: Context) -> bytes:
        details = b"before\x0a\x05stage\x12\x07arrivalafter"
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no", (("grpc-status-details-bin", details),))

    async def silent(self, _request: bytes, _context: Context) -> bytes:
        self.started.set()
        try:
            await asyncio.get_running_loop().create_future()
            return b""
        finally:
            self.cancelled.set()


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Service, Connection, grpc.aio.Server]]:
    service, server = Service(), grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = await connect(f"127.0.0.1:{port}", [("authorization", "Bearer me")])
    try:
        yield service, connection, server
    finally:
        connection.close()
        await server.stop(None)


async def test_a_message_comes_back() -> None:
    async with served() as (service, connection, _):
        for message in (b"one", b"two"):  # the second one's headers are known already
            reply = await connection.call("/t.T/Echo", message, 7.0)
            assert (reply.status, reply.message) == (0, message)
            assert service.metadata["authorization"] == "Bearer me"
            assert service.left is not None
            assert 6.0 < service.left <= 7.0


async def test_streams_and_methods_are_told_apart() -> None:
    async with served() as (_, connection, _):
        streamed, echoed = await asyncio.gather(
            connection.call("/t.T/Stream", b"abc", 9.0), connection.call("/t.T/Echo", b"xyz", 9.0)
        )
    assert (streamed.status, bytes(streamed.body)) == (0, b"\x00\x00\x00\x00\x03abc" * 3)
    assert echoed.message == b"xyz"


async def test_a_refusal_tells_its_stage() -> None:
    async with served() as (_, connection, _):
        reply = await connection.call("/t.T/Refuse", b"", 9.0)
    assert reply.status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert fate_of(reply) == (Fate.REFUSED, "arrival")


async def test_a_deadline_ends_the_call_on_both_sides() -> None:
    async with served() as (service, connection, _):
        reply = await connection.call("/t.T/Silent", b"", 0.2)
        assert (reply.status, fate_of(reply)) == (TIMED_OUT, (Fate.LATE, ""))
        await service.cancelled.wait()
        assert (await connection.call("/t.T/Echo", b"more", 9.0)).message == b"more"


async def test_more_than_the_window_is_sent_when_the_server_has_read() -> None:
    async with served() as (_, connection, _):
        messages = [bytes([number]) * (INITIAL // 5) for number in range(40)]
        replies = await asyncio.gather(*(connection.call("/t.T/Echo", each, 30.0) for each in messages))
    assert [reply.message for reply in replies] == messages


async def test_calls_of_a_connection_that_breaks_are_lost() -> None:
    async with served() as (service, connection, _):
        call = asyncio.create_task(connection.call("/t.T/Silent", b"", 30.0))
        await service.started.wait()
        connection.close()
        assert (await call).status == LOST
        assert connection.lost
