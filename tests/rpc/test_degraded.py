"""What is said of a degraded answer, in all the places where it is said, from the error to the line in the log."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import cast

import pytest

from broker.domain.answer import Answer, AnswerKind, DegradationReason, LadderStep, Rung
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Model
from broker.domain.request import CallContext, ExploreEvent
from broker.domain.terms import AnswerPolicy
from broker.pipeline.catalog import Catalog
from broker.pipeline.classified import Classifying
from broker.pipeline.degraded import Degrading, degraded, degraded_stream
from broker.pipeline.explain import Explainer
from broker.pipeline.grids import GridCache
from broker.pipeline.known_seals import nobody_knows
from broker.pipeline.ladder import Ladder
from broker.pipeline.planner import Planner
from broker.pipeline.recipes import Recipes
from broker.pipeline.routes import Router
from broker.pipeline.service import QueryService
from broker.pipeline.sql import SqlStream
from broker.pipeline.stage import Group, Outcome, Question
from broker.pipeline.streamed import Limits
from broker.policy.classify import Classifier
from broker.ports.store import QueryStore
from broker.runtime.clock import SystemClock
from broker.telemetry.instruments import Telemetry
from querybroker.v1 import answer_pb2, policy_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.rpc.serving import serving
from tests.rpc.test_telemetry import METHOD, QUERY, Observed
from tests.support.answering import answer
from tests.support.datasets import flights
from tests.support.metrics import read

KINDS = {
    Rung.CACHE_STALE: AnswerKind.CACHE_STALE,
    Rung.ROLLUP_STALE: AnswerKind.ROLLUP_STALE,
    Rung.ESTIMATE: AnswerKind.ESTIMATE,
}
LEVELS = {Rung.CACHE_STALE: 2, Rung.ROLLUP_STALE: 3, Rung.ESTIMATE: 4}


@dataclass(frozen=True)
class Below:
    """The only rung that answers."""

    rung: Rung

    def allowed(self, policy: AnswerPolicy) -> bool:
        return KINDS[self.rung] in policy.accepted_kinds

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        return answer(KINDS[self.rung], staleness=7.0)


async def full(_group: Group) -> Sequence[Outcome]:
    raise BrokerError(ErrorReason.TENANT_QUOTA, "full", metadata={"limiting_factor": "tenant_queue"})


async def full_stream(group: Group) -> AsyncGenerator[ExploreEvent, None]:
    await full(group)
    yield answer().status


def service(rung: Rung, telemetry: Telemetry) -> QueryService:
    """The request path over a pool that is always full."""
    model, clock = Model({"flights": flights()}), SystemClock()

    def no_seat(_context: CallContext) -> AbstractAsyncContextManager[object]:
        raise BrokerError(ErrorReason.OVERLOADED, "full")

    store = cast("QueryStore", None)
    classifying = Classifying(Classifier(), clock, store, no_seat, Router(model))
    degrading = Degrading(Ladder((Below(rung),), clock, telemetry))
    return QueryService(
        Planner(Catalog(model), GridCache(), telemetry),
        Recipes(degraded(degrading)(full), degraded_stream(degrading)(full_stream)),
        classifying,
        Explainer(store, classifying, no_seat, nobody_knows),
        cast("SqlStream", None),
        telemetry,
        Limits(100, 100),
    )


@pytest.mark.parametrize("rung", KINDS)
@pytest.mark.parametrize("method", ["Dashboard", "Explore"])
async def test_all_places_say_the_same(rung: Rung, method: str, caplog: pytest.LogCaptureFixture) -> None:
    observed = Observed()
    terms = policy_pb2.AnswerPolicy(accepted_kinds=[kind for kind in answer_pb2.AnswerKind.values() if kind])
    kind, reason = KINDS[rung].value, DegradationReason.TENANT_QUOTA.value
    with caplog.at_level(logging.INFO, "querybroker.access"):
        async with serving(telemetry=observed.telemetry) as broker:
            app, stub = service(rung, observed.telemetry), QueryServiceStub(broker.channel)
            if method == "Dashboard":
                broker.queries.on_dashboard = app.dashboard
                panel = query_service_pb2.Panel(query=QUERY)
                call = stub.Dashboard(query_service_pb2.DashboardRequest(panels=[panel], policy=terms))
                status = (await call).panels[0].status
                trailers = dict(await call.trailing_metadata())
            else:
                broker.queries.on_explore = app.explore
                stream = stub.Explore(query_service_pb2.ExploreRequest(query=QUERY, policy=terms))
                status = [event async for event in stream][-1].status
                trailers = dict(await stream.trailing_metadata())
    name = METHOD.replace("Dashboard", method)
    assert answer_pb2.AnswerKind.Name(status.kind) == f"ANSWER_KIND_{kind.upper()}"
    assert [answer_pb2.DegradationReason.Name(each) for each in status.reasons] == [
        f"DEGRADATION_REASON_{reason.upper()}"
    ]
    assert (status.degraded, status.degradation_level) == (True, LEVELS[rung])
    assert trailers["querybroker-answer-kind"] == kind
    assert trailers["querybroker-degraded-reason"] == reason
    assert trailers["querybroker-data-age-ms"] == "7000"
    (span,) = [span for span in observed.spans.get_finished_spans() if span.name == name]
    attributes = dict(span.attributes or {})
    assert attributes["querybroker.answer.source"] == kind
    assert attributes["querybroker.answer.degraded_reason"] == reason
    (line,) = [record for record in caplog.records if getattr(record, "rpc_method", "") == name]
    told = vars(line)
    assert (told["answer_source"], told["degraded_reason"]) == (kind, reason)
    metrics = read(observed.reader)
    assert metrics["querybroker.answer.count"] == {(reason, kind, name): 1}
    assert metrics["querybroker.fallback.rung"] == {("live", rung.value, reason): 1}
