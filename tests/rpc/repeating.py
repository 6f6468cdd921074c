"""A dashboard that is asked again and again, over answers that a test holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from broker.domain.answer import AnswerKind, Guarantee
from broker.domain.held import Held, Reach
from broker.domain.request import CallContext, DashboardAsk, DashboardOutcome, PanelOutcome
from broker.policy.freshness import Freshness, Standing, given
from broker.transport.services import Repeat
from querybroker.v1 import query_pb2, query_service_pb2, query_service_pb2_grpc
from tests.rpc.fakes import KEY, answer
from tests.rpc.serving import Serving

KEYED = (("authorization", f"Bearer {KEY}"),)


@dataclass
class Cache:
    """Holds one answer for every panel, and counts how often requests were read, and answers asked for again."""

    held: dict[str, Held] = field(default_factory=dict)
    reads: int = 0
    agains: int = 0
    repeats: int = 0
    counted: int = 0
    quota: bool = True

    def fresh(self, held: Held) -> Freshness:
        now = datetime.now(UTC)
        bound, staleness = 0.25, (now - held.as_of).total_seconds() % 1.0
        as_of = now - timedelta(seconds=staleness)
        return Freshness(
            Standing.FRESH, AnswerKind.CACHE_FRESH, Guarantee.BOUNDED_STALENESS, bound, as_of, staleness
        )

    async def dashboard(self, context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        self.reads += 1
        outcomes = []
        for panel in ask.panels:
            held = self.held.get(panel.panel_id)
            result = answer() if held is None else answer(held.table.row_count)
            if held is None:
                self.held[panel.panel_id] = Held(
                    panel.panel_id, result.table, result.status, Reach("flights")
                )
                outcomes.append(PanelOutcome(panel.panel_id, result))
                continue
            cached = type(result)(held.table, given(held, self.fresh(held)))
            outcomes.append(PanelOutcome(panel.panel_id, cached, token=panel.panel_id))
        return DashboardOutcome(tuple(outcomes))

    def again(self, tokens: Sequence[object]) -> Repeat | None:
        self.agains += 1
        if any(token not in self.held for token in tokens):
            return None
        found = [(self.held[str(token)], self.fresh(self.held[str(token)])) for token in tokens]
        return Given(self, found, time.monotonic())


@dataclass
class Given:
    """A :class:`Repeat` that stands while the same answers are held."""

    cache: Cache
    found: Sequence[tuple[Held, Freshness]]
    judged: float

    def stands(self, now: float) -> bool:
        self.cache.repeats += 1
        return all(self.cache.held.get(held.key) is held for held, _ in self.found)

    def allowed(self) -> bool:
        self.cache.counted += 1
        return self.cache.quota


def request(
    *, relative: bool = False, panels: int = 2, request_id: str = ""
) -> query_service_pb2.DashboardRequest:
    """A dashboard; with ``relative`` over the last days."""
    query = query_pb2.Query(dataset="flights", measures=["flights"])
    if relative:
        query.time.relative.count = 7
        query.time.relative.unit = query_pb2.TIME_GRAIN_DAY
    asked = [query_service_pb2.Panel(panel_id=f"p{i}", query=query) for i in range(panels)]
    return query_service_pb2.DashboardRequest(panels=asked, request_id=request_id)


async def ask(
    broker: Serving, asked: query_service_pb2.DashboardRequest, **options: object
) -> tuple[object, dict[str, str]]:
    """The response and the trailers."""
    stub = query_service_pb2_grpc.QueryServiceStub(broker.channel)
    call = stub.Dashboard(asked, timeout=10, **options)  # type: ignore[arg-type] # options of a call
    response = await call
    return response, {str(k): str(v) for k, v in await call.trailing_metadata()}
