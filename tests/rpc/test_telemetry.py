"""What a call leaves in traces, metrics and the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, use_span

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.principal import Criticality
from broker.domain.request import CallContext, DashboardAsk, DashboardOutcome
from broker.telemetry.instruments import Telemetry
from querybroker import Client
from querybroker.v1 import query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.rpc.raw import refused
from tests.rpc.serving import Serving, serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
METHOD = "querybroker.v1.QueryService/Dashboard"
QUERY = query_pb2.Query(dataset="flights", measures=["flights"])
REQUEST = query_service_pb2.DashboardRequest(panels=[query_service_pb2.Panel(query=QUERY)])


class Observed:
    """A server whose telemetry is kept in memory."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(tracers, meters)

    def points(self, name: str) -> list[HistogramDataPoint]:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [
            p
            for m in metrics
            if m.name == name
            for p in m.data.data_points
            if isinstance(p, HistogramDataPoint)
        ]


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
async def broker(observed: Observed) -> AsyncIterator[Serving]:
    async with serving(telemetry=observed.telemetry) as running:
        yield running


async def test_the_servers_span_continues_the_callers_trace(broker: Serving, observed: Observed) -> None:
    metadata = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),)
    response = await QueryServiceStub(broker.channel).Dashboard(REQUEST, metadata=metadata)
    (span,) = observed.spans.get_finished_spans()
    assert (span.name, span.kind) == (METHOD, SpanKind.SERVER)
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == "00f067aa0ba902b7"
    attributes = dict(span.attributes or {})
    assert attributes["rpc.system.name"] == "grpc"
    assert attributes["rpc.method"] == METHOD
    assert attributes["rpc.status_code"] == "OK"
    assert attributes["querybroker.request_id"] == response.request_id
    (context,) = broker.queries.contexts
    assert context.trace["traceparent"].split("-")[1] == TRACE
    assert context.method == METHOD


async def test_the_python_client_hands_its_trace_on(broker: Serving, observed: Observed) -> None:
    caller = SpanContext(int(TRACE, 16), 0x00F067AA0BA902B7, is_remote=False, trace_flags=TraceFlags(1))
    with use_span(NonRecordingSpan(caller)):
        async with Client(broker.address) as client:
            await client.ask(QUERY)
    (span,) = observed.spans.get_finished_spans()
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (caller.trace_id, caller.span_id)


async def test_how_a_call_was_cut_short_is_told(broker: Serving, observed: Observed) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(_context: CallContext, _ask: DashboardAsk) -> DashboardOutcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("nobody sets the event")

    broker.queries.on_dashboard = endless
    stub = QueryServiceStub(broker.channel)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Dashboard(REQUEST, timeout=0.5)
    await ended.wait()
    begun.clear()
    ended.clear()
    call = stub.Dashboard(REQUEST)
    pending = asyncio.ensure_future(call)
    await begun.wait()
    call.cancel()
    await ended.wait()
    with pytest.raises(asyncio.CancelledError):
        await pending
    await broker.server.drain()
    codes = [dict(span.attributes or {})["rpc.status_code"] for span in observed.spans.get_finished_spans()]
    assert codes == ["DEADLINE_EXCEEDED", "CANCELLED"]


async def test_a_refusal_is_counted_by_its_reason(broker: Serving, observed: Observed) -> None:
    async def full(_context: CallContext, _ask: DashboardAsk) -> DashboardOutcome:
        raise BrokerError(ErrorReason.OVERLOADED, "Full.")

    broker.queries.on_dashboard = full
    await refused(broker.channel, f"/{METHOD}", REQUEST.SerializeToString())
    await refused(broker.channel, "/made.up/Method", b"")
    await (
        broker.server.drain()
    )  # a call is counted when it has ended here, a moment after its caller was told
    counted = {
        (p.attributes["rpc.method"], p.attributes["rpc.status_code"], p.attributes["error.type"]): p.count
        for p in observed.points("rpc.server.call.duration")
        if p.attributes is not None
    }
    assert counted == {
        (METHOD, "UNAVAILABLE", "OVERLOADED"): 1,
        ("_OTHER", "UNIMPLEMENTED", "NOT_OFFERED"): 1,
    }
    first, *_ = observed.spans.get_finished_spans()
    assert first.status.status_code is StatusCode.ERROR


async def test_every_call_has_one_line_in_the_log(broker: Serving, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "querybroker.access")
    response = await QueryServiceStub(broker.channel).Dashboard(REQUEST)
    await refused(broker.channel, f"/{METHOD}", b"")
    lines = [record.__dict__ for record in caplog.records if record.name == "querybroker.access"]
    good, bad = lines
    assert good["rpc_method"] == bad["rpc_method"] == METHOD
    assert (good["rpc_status"], bad["rpc_status"]) == ("OK", "INVALID_ARGUMENT")
    assert good["request_id"] == response.request_id
    assert (good["principal"], good["tenant"], good["answer_source"]) == ("anonymous", "default", "live")
    assert bad["reason"] == "INVALID_REQUEST"
    assert good["duration_ms"] >= 0


async def test_a_caller_may_lower_its_criticality_and_not_raise_it(broker: Serving) -> None:
    stub = QueryServiceStub(broker.channel)
    for wanted in ("sheddable", "critical_plus"):
        await stub.Dashboard(REQUEST, metadata=(("querybroker-criticality", wanted),))
    assert [c.principal.criticality for c in broker.queries.contexts] == [
        Criticality.SHEDDABLE,
        Criticality.CRITICAL,
    ]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Dashboard(REQUEST, metadata=(("querybroker-criticality", "vital"),))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
