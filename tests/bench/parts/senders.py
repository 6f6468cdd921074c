"""Senders of the overload benchmark: the same question to a broker, and to the service that is written by hand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache

from querybroker.v1 import query_service_pb2
from tests.bench.live import SQL, Shape, request
from tests.bench.parts import byhand
from tests.bench.parts.traffic import Arrival, Fate
from tests.bench.parts.wire import TIMED_OUT, Connection, Reply, connect

QUESTION = Shape("most of a year", timedelta(days=350), timedelta(minutes=7))
"""About 100 ms of one core."""
DEADLINE = 2.0
"""Seconds that every request of this benchmark has."""
DIMENSIONS = {"time_hour": {"type": "timestamp", "time": True}, "carrier": "string", "origin": "string"}
DATASET = "live"
DATASETS = {
    DATASET: {
        "table": "public.flights",
        "primary_key": {"id": "int64"},
        "default_time": "time_hour",
        "dimensions": DIMENSIONS,
        "measures": {
            "flights": "count",
            "miles": {"kind": "sum", "column": "distance", "type": "int64"},
            "dep_delay": {"kind": "avg", "column": "dep_delay", "type": "int64"},
        },
    }
}
"""The flights without rollups: whether one of them has the answer by now is not asked either."""
TENANTS = tuple(f"tenant{i}" for i in range(10))
QUIET, NOISY = "quiet", "noisy"
_STAGE = b"\x0a\x05stage\x12"
"""The entry of the stage in the metadata of an ErrorInfo, as Protocol Buffers write it; then come its length and it."""
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
    for ask in asks:
        ask.panels[0].query.dataset = DATASET
    if kind == "dashboard":
        return [ask.SerializeToString() for ask in asks]
    return [query_service_pb2.ExploreRequest(query=ask.panels[0].query).SerializeToString() for ask in asks]


class Callers:
    """A connection for every tenant to one address, opened when it is first used."""

    def __init__(self, address: str, *, keyed: bool) -> None:
        self._address, self._keyed = address, keyed
        self._connections: dict[str, asyncio.Task[Connection]] = {}

    async def of(self, tenant: str) -> Connection:
        """The connection of a tenant."""
        found = self._connections.get(tenant)
        if found is None or (found.done() and found.result().lost):
            metadata = [("authorization", f"Bearer {tenant}")] if self._keyed else []
            found = asyncio.create_task(connect(self._address, metadata))
            self._connections[tenant] = found
        return found.result() if found.done() else await asyncio.shield(found)

    def close(self) -> None:
        """Ends them."""
        for connection in self._connections.values():
            connection.result().close()


class Broker:
    """Sends requests to a broker."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def __call__(self, arrival: Arrival, left: float) -> tuple[Fate, str]:
        """One call of either kind."""
        message = questions(arrival.kind)[arrival.number % 100]
        connection = await self._callers.of(arrival.tenant)
        reply = await connection.call(METHODS[arrival.kind], message, left)
        if reply.status:
            return fate_of(reply)
        if arrival.kind == "dashboard":
            panel = query_service_pb2.DashboardResponse.FromString(reply.message).panels[0]
            return (Fate.FAILED if panel.HasField("error") else Fate.LIVE), ""
        return Fate.LIVE, ""


def fate_of(reply: Reply) -> tuple[Fate, str]:
    """A refusal with its stage, a deadline that passed, or a failure."""
    _, entry, after = reply.trailers.partition(_STAGE)
    if entry:
        return Fate.REFUSED, after[1 : 1 + after[0]].decode()
    return (Fate.LATE if reply.status == TIMED_OUT else Fate.FAILED), ""


class ByHand:
    """Sends the same questions to the service written by hand."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def __call__(self, arrival: Arrival, left: float) -> tuple[Fate, str]:
        """One call; both kinds are the same to it."""
        start, end = QUESTION.range(131 * (arrival.number % 100))
        message = f"{start.isoformat()} {end.isoformat()}".encode()
        connection = await self._callers.of(arrival.tenant)
        reply = await connection.call(byhand.METHOD, message, left)
        return fate_of(reply) if reply.status else (Fate.LIVE, "")


@asynccontextmanager
async def broker(address: str) -> AsyncIterator[Broker]:
    """Callers of a broker."""
    callers = Callers(address, keyed=True)
    try:
        yield Broker(callers)
    finally:
        callers.close()


@asynccontextmanager
async def by_hand(dsn: str, seats: int) -> AsyncIterator[ByHand]:
    """The rival in a process of its own."""
    async with byhand.running(dsn, seats, SQL) as address:
        callers = Callers(address, keyed=False)
        try:
            yield ByHand(callers)
        finally:
            callers.close()
