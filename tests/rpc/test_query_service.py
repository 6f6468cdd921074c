"""QueryService over a real channel: what the concatenated bytes mean to the generated messages."""

from __future__ import annotations

from broker.domain.answer import AnswerKind, DegradationReason
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.request import CallContext, DashboardAsk, DashboardOutcome, PanelOutcome
from broker.domain.terms import CacheMode, Consistency
from querybroker import Client
from querybroker.v1 import answer_pb2, policy_pb2, query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.rpc.fakes import NOON, answer, encoded_table
from tests.rpc.serving import Serving

QUERY = query_pb2.Query(dataset="flights", measures=["flights"])


def request(*panels: str, **fields: object) -> query_service_pb2.DashboardRequest:
    return query_service_pb2.DashboardRequest(
        panels=[query_service_pb2.Panel(panel_id=panel, query=QUERY) for panel in panels],
        **fields,  # type: ignore[arg-type] # a test names fields of the message
    )


async def test_a_panel_is_its_status_beside_the_table_as_it_was_encoded(broker: Serving) -> None:
    async def two(context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        failed = BrokerError(ErrorReason.STORE_REJECTED, "No such column.", metadata={"sqlstate": "42703"})
        return DashboardOutcome((PanelOutcome("a", answer(200)), PanelOutcome("b", failed)), NOON)

    broker.queries.on_dashboard = two
    call = QueryServiceStub(broker.channel).Dashboard(request("a", "b"))
    response = await call
    first, second = response.panels
    assert first.panel_id == "a"
    assert first.table.SerializeToString() == encoded_table(200)
    assert list(first.table.columns.columns[0].int64_values.values) == list(range(200))
    assert first.status.kind == answer_pb2.ANSWER_KIND_LIVE
    assert first.status.as_of.ToDatetime(NOON.tzinfo) == NOON
    assert first.status.staleness.nanos == 250_000_000
    assert first.status.request_id == response.request_id
    assert not first.HasField("error")
    assert second.panel_id == "b"
    assert second.error.code == 9
    assert not second.HasField("table")
    assert response.snapshot_time.ToDatetime(NOON.tzinfo) == NOON


async def test_trailers_tell_the_worst_panel(broker: Serving) -> None:
    async def mixed(context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        reasons = (DegradationReason.UPSTREAM_UNAVAILABLE,)
        stale = answer(1, AnswerKind.CACHE_STALE, degraded=True, reasons=reasons, staleness=61.5)
        return DashboardOutcome((PanelOutcome("0", answer(1)), PanelOutcome("1", stale)))

    broker.queries.on_dashboard = mixed
    call = QueryServiceStub(broker.channel).Dashboard(request("0", "1"))
    response = await call
    trailers = dict(await call.trailing_metadata() or ())
    assert trailers == {
        "querybroker-request-id": response.request_id,
        "querybroker-answer-kind": "cache_stale",
        "querybroker-degraded-reason": "upstream_unavailable",
        "querybroker-data-age-ms": "61500",
    }
    assert not response.HasField("snapshot_time")


async def test_policies_are_merged_field_by_field(broker: Serving) -> None:
    policy = policy_pb2.AnswerPolicy(
        cache_mode=policy_pb2.CACHE_MODE_REVALIDATE,
        consistency=policy_pb2.CONSISTENCY_SNAPSHOT,
        accepted_kinds=[answer_pb2.ANSWER_KIND_LIVE, answer_pb2.ANSWER_KIND_HYBRID],
    )
    asked = request("a", policy=policy)
    asked.panels[0].policy.cache_mode = policy_pb2.CACHE_MODE_ONLY
    asked.panels[0].policy.max_staleness.seconds = 5
    await QueryServiceStub(broker.channel).Dashboard(asked)
    (ask,) = broker.queries.asks
    assert isinstance(ask, DashboardAsk)
    assert ask.consistency is Consistency.SNAPSHOT
    merged = ask.panels[0].policy
    assert merged.cache is CacheMode.ONLY
    assert merged.accepted_kinds == {AnswerKind.LIVE, AnswerKind.HYBRID}
    assert merged.max_staleness == 5


async def test_tables_that_the_caller_cannot_receive_are_replaced_largest_first(broker: Serving) -> None:
    sizes = {"small": 10, "large": 60_000, "larger": 90_000}

    async def three(context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        return DashboardOutcome(
            tuple(PanelOutcome(p.panel_id, answer(sizes[p.panel_id])) for p in ask.panels)
        )

    broker.queries.on_dashboard = three
    limit = (("querybroker-max-response-bytes", "200000"),)
    response = await QueryServiceStub(broker.channel).Dashboard(request(*sizes), metadata=limit)
    assert response.ByteSize() <= 200_000
    assert [p.HasField("error") for p in response.panels] == [False, False, True]
    assert "Explore" in response.panels[2].error.message
    assert response.panels[2].panel_id == "larger"


async def test_callers_that_say_nothing_are_taken_to_receive_what_libraries_allow(broker: Serving) -> None:
    async def large(context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        return DashboardOutcome((PanelOutcome(ask.panels[0].panel_id, answer(2_000_000)),))

    broker.queries.on_dashboard = large
    (panel,) = (await QueryServiceStub(broker.channel).Dashboard(request("a"))).panels
    assert "querybroker-max-response-bytes" in panel.error.message
    async with Client(broker.address) as client:
        assert len(await client.ask(QUERY)) == 2_000_000


async def test_a_stream_is_a_header_batches_in_order_and_a_status(broker: Serving) -> None:
    call = QueryServiceStub(broker.channel).Explore(query_service_pb2.ExploreRequest(query=QUERY))
    header, first, second, last = [event async for event in call]
    assert header.header.schema[0].name == "flights"
    assert header.header.cost_class == answer_pb2.COST_CLASS_EXPLORATION
    assert header.header.as_of.ToDatetime(NOON.tzinfo) == NOON
    assert [b.batch.first_row for b in (first, second)] == [0, 2]
    assert [b.batch.row_count for b in (first, second)] == [2, 2]
    assert list(second.batch.columns.columns[0].int64_values.values) == [2, 3]
    assert last.status.kind == answer_pb2.ANSWER_KIND_CACHE_STALE
    trailers = dict(await call.trailing_metadata() or ())
    assert trailers["querybroker-answer-kind"] == "cache_stale"
    assert trailers["querybroker-request-id"] == header.header.request_id


async def test_an_explanation_tells_class_and_statements(broker: Serving) -> None:
    explained = await QueryServiceStub(broker.channel).Explain(query_service_pb2.ExplainRequest(query=QUERY))
    assert explained.classification.pool == "dashboard"
    assert explained.classification.basis == query_service_pb2.CLASSIFICATION_BASIS_HISTORY
    assert [c.name for c in explained.schema] == ["carrier", "flights"]
    assert list(explained.statements) == ["SELECT 1"]


async def test_the_callers_request_id_names_the_call(broker: Serving) -> None:
    mine = "123e4567-e89b-42d3-a456-426614174000"
    stub = QueryServiceStub(broker.channel)
    by_body = await stub.Dashboard(request("a", request_id=mine), metadata=(("x-request-id", "proxy-7"),))
    by_metadata = await stub.Dashboard(request("a"), metadata=(("x-request-id", "proxy-7"),))
    made = await stub.Dashboard(request("a"), metadata=(("x-request-id", "no spaces, please"),))
    assert by_body.request_id == mine
    assert by_metadata.request_id == "proxy-7"
    assert made.request_id.startswith("00000000-0000-4000-8000-")
