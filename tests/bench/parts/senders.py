"""Senders of the overload benchmark: the same question to a broker, and to the service that is written by hand."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from querybroker.v1 import query_service_pb2
from tests.bench.live import SHAPES, SQL, request
from tests.bench.parts import byhand
from tests.bench.parts.place import CHANNEL
from tests.bench.parts.traffic import Arrival, Fate

YEAR = SHAPES[2]
TENANTS = tuple(f"tenant{i}" for i in range(10))
QUIET, NOISY = "quiet", "noisy"
Unary = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
Streaming = grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
METHODS = {
    "dashboard": "/querybroker.v1.QueryService/Dashboard",
    "explore": "/querybroker.v1.QueryService/Explore",
}


def keys() -> dict[str, object]:
    """Every tenant with an API key, its name; the operator may see the state."""
    made: dict[str, object] = {}
    for name in (*TENANTS, QUIET, NOISY, "operator"):
        digest = hashlib.sha256(name.encode()).hexdigest()
        made[name] = {
            "tenant": name,
            "grants": ["admin"] if name == "operator" else [],
            "hashes": [f"sha256:{digest}"],
        }
    return made


@dataclass(frozen=True)
class Broker:
    """Sends requests to a broker, undecoded: what a generator does with answers is not measured."""

    channel: grpc.aio.Channel

    async def __call__(self, arrival: Arrival, left: float) -> tuple[Fate, str]:
        """One call of either kind."""
        ask = request(YEAR, arrival.number)
        metadata = (("authorization", f"Bearer {arrival.tenant}"),)
        try:
            if arrival.kind == "dashboard":
                call: Unary = self.channel.unary_unary(METHODS["dashboard"])
                answer = await call(ask.SerializeToString(), timeout=left, metadata=metadata)
                panel = query_service_pb2.DashboardResponse.FromString(answer).panels[0]
                return (Fate.FAILED if panel.HasField("error") else Fate.LIVE), ""
            explore = query_service_pb2.ExploreRequest(query=ask.panels[0].query)
            stream: Streaming = self.channel.unary_stream(METHODS["explore"])
            async for _ in stream(explore.SerializeToString(), timeout=left, metadata=metadata):
                pass
        except grpc.aio.AioRpcError as error:
            return fate_of(error)
        return Fate.LIVE, ""


def fate_of(error: grpc.aio.AioRpcError) -> tuple[Fate, str]:
    """A refusal with its stage, a deadline that passed, or a failure."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and "stage" in info.metadata:
                    return Fate.REFUSED, info.metadata["stage"]
    return (Fate.LATE if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else Fate.FAILED), ""


@dataclass(frozen=True)
class ByHand:
    """Sends the same questions to the service written by hand."""

    channel: grpc.aio.Channel

    async def __call__(self, arrival: Arrival, left: float) -> tuple[Fate, str]:
        """One call; both kinds are the same to it."""
        start, end = YEAR.range(arrival.number)
        text = f"{start.isoformat()} {end.isoformat()}".encode()
        try:
            call: Unary = self.channel.unary_unary(byhand.METHOD)
            await call(text, timeout=left)
        except grpc.aio.AioRpcError as error:
            return fate_of(error)
        return Fate.LIVE, ""


@asynccontextmanager
async def by_hand(dsn: str, seats: int) -> AsyncIterator[ByHand]:
    """The rival in a process of its own."""
    async with (
        byhand.running(dsn, seats, SQL) as address,
        grpc.aio.insecure_channel(address, options=CHANNEL) as channel,
    ):
        yield ByHand(channel)
