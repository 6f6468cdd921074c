"""Senders of the overload benchmark: the same question to a broker, and to the service that is written by hand."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from querybroker.v1 import query_service_pb2
from tests.bench.live import SQL, Shape, request
from tests.bench.parts import byhand
from tests.bench.parts.place import CHANNEL
from tests.bench.parts.traffic import Arrival, Fate

QUESTION = Shape("most of a year", timedelta(days=350), timedelta(minutes=7))
"""About 100 ms of one core."""
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


@cache
def questions(kind: str) -> Sequence[bytes]:
    """Calls of a kind as they go over the wire: making them is not what is measured, on the same machine."""
    asks = [request(QUESTION, 131 * number) for number in range(100)]
    if kind == "dashboard":
        return [ask.SerializeToString() for ask in asks]
    return [query_service_pb2.ExploreRequest(query=ask.panels[0].query).SerializeToString() for ask in asks]


class Broker:
    """Sends requests to a broker, undecoded."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._dashboard: Unary = channel.unary_unary(METHODS["dashboard"])
        self._explore: Streaming = channel.unary_stream(METHODS["explore"])

    async def __call__(self, arrival: Arrival, left: float) -> tuple[Fate, str]:
        """One call of either kind."""
        raw = questions(arrival.kind)[arrival.number % 100]
        metadata = (("authorization", f"Bearer {arrival.tenant}"),)
        try:
            if arrival.kind == "dashboard":
                answer = await self._dashboard(raw, timeout=left, metadata=metadata)
                panel = query_service_pb2.DashboardResponse.FromString(answer).panels[0]
                return (Fate.FAILED if panel.HasField("error") else Fate.LIVE), ""
            async for _ in self._explore(raw, timeout=left, metadata=metadata):
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


class ByHand:
    """Sends the same questions to the service written by hand."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._read: Unary = channel.unary_unary(byhand.METHOD)

    async def __call__(self, arrival: Arrival, left: float) -> tuple[Fate, str]:
        """One call; both kinds are the same to it."""
        start, end = QUESTION.range(131 * (arrival.number % 100))
        try:
            await self._read(f"{start.isoformat()} {end.isoformat()}".encode(), timeout=left)
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
