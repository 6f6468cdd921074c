"""Callers who ask for dashboards and explorations all the time, and judge what they get."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc.aio
from google.rpc.status_pb2 import Status as RpcStatus

from querybroker.v1 import policy_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.bench.parts.fault_judge import Ask, Got, judged, reason_of, rows_of
from tests.bench.parts.fault_terms import TERMS
from tests.bench.parts.fault_world import DATASETS, MONTHS, Place, Row, Truth, Writer, common

if TYPE_CHECKING:
    from querybroker.v1.query_service_pb2_grpc import QueryServiceAsyncStub  # there is none at run time

CALLERS = 6
DEADLINE = 2.0
SHORT = (0.005, 0.2)
"""Seconds of short deadlines, and after which callers hang up."""
PAUSE = 0.02
"""Mean seconds between two calls of a caller."""
_DETAILS = "grpc-status-details-bin"
_OWN = {grpc.StatusCode.DEADLINE_EXCEEDED: "(deadline)", grpc.StatusCode.CANCELLED: "(hung up)"}
_LIVE = policy_pb2.CONSISTENCY_SNAPSHOT


@dataclass
class Load:
    """Callers of a broker; ``faults`` has what was wrong by class, with why and when."""

    address: str
    truth: Truth
    writer: Writer
    rng: random.Random
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, str, float]] = field(default_factory=list)
    cut_short: int = 0
    calm: Counter[str] = field(default_factory=Counter)

    @property
    def answers(self) -> int:
        """Answers in all."""
        return sum(self.kinds.values())

    async def run(self) -> None:
        """Asks until it is cancelled; what is under way then is cancelled too."""
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(self._caller(random.Random(self.rng.random())))

    async def _caller(self, rng: random.Random) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        async with grpc.aio.insecure_channel(self.address, options=options) as channel:
            stub = QueryServiceStub(channel)
            while True:
                await self.once(stub, rng)
                await asyncio.sleep(rng.expovariate(1 / PAUSE))

    async def once(self, stub: QueryServiceAsyncStub, rng: random.Random, *, patient: bool = False) -> None:
        """One call, judged; the patient neither hurry nor hang up."""
        short, hang_up = rng.random() < 0.1 and not patient, rng.random() < 0.05 and not patient
        self.cut_short += short or hang_up
        deadline = rng.uniform(*SHORT) if short else DEADLINE
        call = self._explore if rng.random() < 0.25 else self._dashboard
        try:
            async with asyncio.timeout(rng.uniform(*SHORT) if hang_up else None):
                await call(stub, rng, deadline)
        except TimeoutError:
            self.reasons["(hung up)"] += 1
        except grpc.aio.AioRpcError as error:
            self._failed(error)

    def _failed(self, error: grpc.aio.AioRpcError) -> None:
        for key, value in error.trailing_metadata() or ():
            if key == _DETAILS and isinstance(value, bytes):
                return self._reason(RpcStatus.FromString(value))
        if error.code() in _OWN:
            self.reasons[_OWN[error.code()]] += 1
        else:
            self._wrong("undeclared", f"no reason: {error.code().name} {error.details()}")
        return None

    def _reason(self, status: RpcStatus) -> None:
        reason = reason_of(status)
        self.reasons[reason.partition("]")[0]] += 1
        if reason.startswith("["):
            self._wrong("undeclared", reason)

    def _wrong(self, fault: str, why: str) -> None:
        self.faults.append((fault, why, time.time()))

    def _ask(self, rng: random.Random, terms: str) -> Ask:
        first, end = rng.choice([(0, 91), (0, 91), (10, 91), (31, 91), (60, 80), (31, 60), (45, 88)])
        grain = (
            rng.choice(("", "day", "month")) if first in MONTHS and end in MONTHS else rng.choice(("", "day"))
        )
        return Ask(rng.choice(DATASETS), first, end, grain, rng.random() < 0.5, terms)

    async def _dashboard(self, stub: QueryServiceAsyncStub, rng: random.Random, deadline: float) -> None:
        together = rng.random() < 0.15
        asks = [
            self._ask(rng, "default" if together else rng.choice(tuple(TERMS)))
            for _ in range(rng.choice((1, 1, 2, 4)))
        ]
        request = query_service_pb2.DashboardRequest(
            panels=[query_service_pb2.Panel(query=a.query(), policy=TERMS[a.terms].policy) for a in asks]
        )
        if together:
            request.policy.consistency = _LIVE
        sent = time.time()
        response = await stub.Dashboard(request, timeout=deadline)
        came, uptos, instants = time.time(), [], set()
        for ask, panel in zip(asks, response.panels, strict=True):
            if panel.HasField("error"):
                self._reason(panel.error)
                continue
            rows = rows_of(ask, panel.table.schema, panel.table.columns) if panel.table.row_count else []
            got = Got(ask, panel.status, _by_place(rows), sent, came)
            instants.add(got.as_of)
            upto = self._judge(got)
            if upto is not None:
                uptos.append(upto)
        if together and (len(instants) > 1 or (uptos and common(uptos) is None)):
            self._wrong("wrong", f"panels of one snapshot differ: as of {instants}, up to {uptos}")

    async def _explore(self, stub: QueryServiceAsyncStub, rng: random.Random, deadline: float) -> None:
        ask = self._ask(rng, rng.choice(("default", "max staleness", "no staleness", "no rollups")))
        request = query_service_pb2.ExploreRequest(query=ask.query(), policy=TERMS[ask.terms].policy)
        sent, rows, schema, status = time.time(), [], None, None
        async for event in stub.Explore(request, timeout=deadline):
            if event.HasField("header"):
                schema = event.header.schema
            elif event.HasField("batch") and schema is not None:
                rows += rows_of(ask, schema, event.batch.columns)
            elif event.HasField("status"):
                status = event.status
        if status is None:
            self._wrong("incomplete_undeclared", "a stream that ended well has no status")
        else:
            self._judge(Got(ask, status, _by_place(rows), sent, time.time()))

    def _judge(self, got: Got) -> tuple[int, int] | None:
        verdict = judged(got, self.truth, self.writer)
        self.kinds[got.kind, "partial" if got.status.missing_intervals else ""] += 1
        if verdict.fault:
            told = str(got.status).replace("\n", " ")
            self._wrong(verdict.fault, f"{got.kind}: {verdict.why}; {got.ask}; {told}")
        return verdict.upto


def _by_place(rows: Sequence[Row]) -> Mapping[Place, Row]:
    found = {row.place: row for row in rows}
    if len(found) != len(rows):
        raise ValueError("a row came twice")
    return found
