"""Spans end with the right status, keep their place, and carry the trace in and out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from broker.domain.errors import BrokerError, ErrorReason
from broker.telemetry.instruments import Telemetry
from tests.support.metrics import read

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
METHOD = "querybroker.v1.QueryService/Dashboard"


@dataclass
class Watched:
    """Telemetry whose spans and metrics can be read."""

    telemetry: Telemetry
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return found

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        return read(self.reader)[name]


@pytest.fixture
def watched() -> Iterator[Watched]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    ticks = iter(range(1_000))
    yield Watched(Telemetry(tracers, meters, clock=lambda: float(next(ticks))), exporter, reader)
    tracers.shutdown()
    meters.shutdown()


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def attributes(span: ReadableSpan) -> Mapping[str, object]:
    return dict(span.attributes or {})


def test_spans_nest_and_the_context_before_comes_back(watched: Watched) -> None:
    before = trace.get_current_span()
    with watched.telemetry.span("outer") as outer:
        with watched.telemetry.span("inner", attributes={"querybroker.rows": 3}):
            pass
        assert trace.get_current_span() is outer
    assert trace.get_current_span() is before
    assert parent_of(watched.span("inner")) == id_of(watched.span("outer"))
    assert attributes(watched.span("inner")) == {"querybroker.rows": 3}


def test_an_exception_is_recorded_with_its_stack(watched: Watched) -> None:
    with pytest.raises(ZeroDivisionError), watched.telemetry.span("work"):
        _ = 1 // 0
    span = watched.span("work")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "ZeroDivisionError"
    (event,) = span.events
    assert "1 // 0" in str((event.attributes or {})["exception.stacktrace"])


def test_a_refusal_is_recorded_by_its_reason_and_without_its_text(watched: Watched) -> None:
    with pytest.raises(BrokerError), watched.telemetry.span("work"):
        raise BrokerError(ErrorReason.OVERLOADED, "secret words")
    span = watched.span("work")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "OVERLOADED")
    assert span.events == ()
    assert "secret" not in span.to_json()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit()])
def test_a_cancel_is_no_error(watched: Watched, error: BaseException) -> None:
    with pytest.raises(type(error)), watched.telemetry.span("work"):
        raise error
    span = watched.span("work")
    assert span.status.is_unset
    assert attributes(span) == {"querybroker.cancelled": True}


async def test_a_stream_closed_by_another_task_ends_its_span_quietly(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async def stream() -> AsyncGenerator[int, None]:
        with watched.telemetry.span("stream"):
            yield 1
            yield 2

    async def read_one(rows: AsyncGenerator[int, None]) -> None:
        assert await anext(rows) == 1

    rows = stream()
    await asyncio.create_task(read_one(rows))
    with watched.telemetry.span("other") as other:
        await rows.aclose()
        assert trace.get_current_span() is other
    assert watched.span("stream").end_time is not None
    assert caplog.records == []


def test_a_call_continues_the_trace_of_its_caller(watched: Watched) -> None:
    with watched.telemetry.server_span(METHOD, {"traceparent": PARENT}, request_id="r-1") as call:
        with watched.telemetry.span("stage"):
            pass
        call.status("OK")
    span = watched.span(METHOD)
    assert span.kind is SpanKind.SERVER
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert parent_of(span) == int(PARENT.split("-")[2], 16)
    assert parent_of(watched.span("stage")) == id_of(span)
    assert attributes(span) == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.status_code": "OK",
        "querybroker.request_id": "r-1",
    }
    assert span.status.is_unset
    assert watched.metric("rpc.server.call.duration") == {(METHOD, "OK", "grpc"): 1.0}


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_call_without_a_trace_begins_one(watched: Watched, header: str) -> None:
    with (
        watched.telemetry.span("of this process"),
        watched.telemetry.server_span(METHOD, {"traceparent": header}),
    ):
        pass
    assert parent_of(watched.span(METHOD)) is None


@pytest.mark.parametrize(
    ("code", "reason", "faulty"),
    [
        ("UNAVAILABLE", "OVERLOADED", True),
        ("INTERNAL", "", True),
        ("INVALID_ARGUMENT", "INVALID_REQUEST", False),
        ("RESOURCE_EXHAUSTED", "TENANT_QUOTA", False),
    ],
)
def test_only_faults_of_the_server_are_errors_of_its_span(
    watched: Watched, code: str, reason: str, faulty: bool
) -> None:
    with watched.telemetry.server_span(METHOD, {}) as call:
        call.status(code, reason)
    span = watched.span(METHOD)
    assert (span.status.status_code is StatusCode.ERROR) is faulty
    assert attributes(span)["error.type"] == (reason or code)
    assert watched.metric("rpc.server.call.duration") == {(reason or code, METHOD, code, "grpc"): 1.0}


@pytest.mark.parametrize(
    ("error", "code"), [(asyncio.CancelledError(), "CANCELLED"), (ValueError(), "UNKNOWN")]
)
def test_a_call_that_nobody_gave_a_status_has_one_all_the_same(
    watched: Watched, error: BaseException, code: str
) -> None:
    with pytest.raises(type(error)), watched.telemetry.server_span(METHOD, {}):
        raise error
    assert attributes(watched.span(METHOD))["rpc.status_code"] == code


def test_a_statement_is_named_by_its_summary_and_measured(watched: Watched) -> None:
    with watched.telemetry.store_span(
        "SELECT", "SELECT flights", collection="flights", pool="dashboard", attributes={"querybroker.rows": 1}
    ):
        pass
    span = watched.span("SELECT flights")
    assert span.kind is SpanKind.CLIENT
    assert attributes(span) == {
        "db.system.name": "postgresql",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT flights",
        "db.collection.name": "flights",
        "db.client.connection.pool.name": "dashboard",
        "querybroker.rows": 1,
    }
    assert watched.metric("db.client.operation.duration") == {
        ("dashboard", "flights", "SELECT", "postgresql"): 1.0
    }


class DriverError(Exception):
    """As a database driver raises it."""

    sqlstate = "57014"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (DriverError("canceling statement"), "DriverError"),
        (
            BrokerError(ErrorReason.STORE_REJECTED, "", metadata={"sqlstate": "57014"}),
            "STORE_REJECTED",
        ),
    ],
)
def test_a_failed_statement_carries_its_sqlstate(watched: Watched, error: Exception, name: str) -> None:
    with pytest.raises(type(error)), watched.telemetry.store_span("COPY", "COPY flights"):
        raise error
    span = watched.span("COPY flights")
    assert attributes(span)["db.response.status_code"] == "57014"
    assert attributes(span)["error.type"] == name
    assert watched.metric("db.client.operation.duration") == {("COPY", "57014", "postgresql", name): 1.0}


def test_work_of_a_worker_process_appears_with_its_own_times(watched: Watched) -> None:
    start = time.time_ns() - 5_000_000
    with watched.telemetry.span("waiting"):
        watched.telemetry.worker_span("kernel", start, start + 4_000_000, attributes={"querybroker.rows": 9})
        watched.telemetry.worker_span("broken", start, start + 1, error=MemoryError("full"))
    span = watched.span("kernel")
    assert (span.start_time, span.end_time) == (start, start + 4_000_000)
    assert parent_of(span) == id_of(watched.span("waiting"))
    assert watched.span("broken").status.status_code is StatusCode.ERROR


def test_a_trace_survives_the_way_through_headers(watched: Watched) -> None:
    assert watched.telemetry.inject() == {}
    assert watched.telemetry.traceparent() == ""
    with watched.telemetry.span("here"):
        headers = watched.telemetry.inject()
        assert watched.telemetry.traceparent() == headers["traceparent"]
    with watched.telemetry.span("there", parent=watched.telemetry.extract(headers)):
        pass
    assert parent_of(watched.span("there")) == id_of(watched.span("here"))


def test_work_that_began_elsewhere_is_linked(watched: Watched) -> None:
    with watched.telemetry.span("submission"):
        headers = watched.telemetry.inject()
    links = watched.telemetry.links(headers, {}, {"traceparent": "nonsense"})
    with watched.telemetry.span("attempt", links=links):
        pass
    (link,) = watched.span("attempt").links
    assert link.context.span_id == id_of(watched.span("submission"))
    assert parent_of(watched.span("attempt")) is None


def test_a_trace_that_is_not_kept_is_not_recorded_but_still_carried() -> None:
    tracers = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracers, MeterProvider(shutdown_on_exit=False))
    with suppress(ValueError), telemetry.server_span(METHOD, {"traceparent": PARENT}) as call:
        assert not call.span.is_recording()
        carried = telemetry.traceparent().split("-")
        assert carried[1] == PARENT.split("-")[1]
        assert carried[3] == "00"
        raise ValueError
    assert exporter.get_finished_spans() == ()


def test_telemetry_that_is_off_does_nothing() -> None:
    telemetry = Telemetry.off()
    with telemetry.server_span(METHOD, {}) as call, telemetry.span("stage"):
        telemetry.admission("dashboard", "critical", "admitted")
        call.status("OK")
    assert not call.span.is_recording()
