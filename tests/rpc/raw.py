"""Calls by bytes, and what errors carry."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

M = TypeVar("M", bound=Message)


async def send(channel: grpc.aio.Channel, method: str, request: bytes, *, streaming: bool = False) -> int:
    """Calls a method and counts its responses."""
    if not streaming:
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        await unary(request)
        return 1
    stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(method)
    return len([response async for response in stream(request)])


async def refused(
    channel: grpc.aio.Channel, method: str, request: bytes, *, streaming: bool = False
) -> grpc.aio.AioRpcError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(channel, method, request, streaming=streaming)
    return caught.value


def trailers(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    """The trailing metadata of an error."""
    return dict(error.trailing_metadata() or ())


def status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The status in the trailers."""
    encoded = trailers(error)["grpc-status-details-bin"]
    assert isinstance(encoded, bytes)
    return status_pb2.Status.FromString(encoded)


def detail(found: status_pb2.Status, kind: type[M]) -> M | None:
    """The one detail of a kind, or None."""
    unpacked = [kind() for _ in found.details]
    hits = [m for packed, m in zip(found.details, unpacked, strict=True) if packed.Unpack(m)]
    assert len(hits) <= 1
    return hits[0] if hits else None


def reason(found: status_pb2.Status) -> str:
    """The reason of the one ErrorInfo."""
    info = detail(found, error_details_pb2.ErrorInfo)
    assert info is not None
    assert info.domain == "querybroker.v1"
    return info.reason


async def read(call: grpc.aio.UnaryStreamCall[Any, M]) -> M:
    """The next response of a stream that has one."""
    response = await call.read()
    assert isinstance(response, Message)
    return response  # type: ignore[return-value] # what is not the end of the stream is a response
