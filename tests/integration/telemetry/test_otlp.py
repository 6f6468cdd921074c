"""Traces and metrics read back from a real OTLP receiver."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from broker.telemetry import catalog, setup
from broker.telemetry.names import SpanName
from broker.telemetry.options import LogFormat, TelemetryOptions
from tests.support.collector import Collector, collecting, plain
from tests.support.telemetry import record_everything

METHOD = "querybroker.v1.QueryService/Dashboard"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WORKER = """
import json, sys, time
start = time.time_ns()
total = sum(range(1000))
print(json.dumps({"traceparent": sys.argv[1], "start": start, "end": time.time_ns()}))
"""


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as received:
        yield received


def options(port: int, ratio: float = 1.0) -> TelemetryOptions:
    return TelemetryOptions(
        version="1.2.3",
        instance_id="i-1",
        otlp_endpoint=f"http://127.0.0.1:{port}",
        otlp_headers=(("x-key", "k"),),
        otlp_timeout=0.5,
        sampling_ratio=ratio,
        log_format=LogFormat.JSON,
    )


async def work_in_another_process(traceparent: str) -> tuple[str, int, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, traceparent, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    told = json.loads(output)
    return told["traceparent"], told["start"], told["end"]


async def test_a_trace_runs_from_the_caller_through_queue_and_store_into_a_worker(
    collector: Collector,
) -> None:
    lines = io.StringIO()
    session = setup.start(options(collector.port), lines)
    telemetry = session.telemetry
    with telemetry.server_span(METHOD, {"traceparent": CALLER}, request_id="r-1") as call:
        with telemetry.span(SpanName.QUEUE):
            pass
        with telemetry.store_span("SELECT", "SELECT flights", collection="flights"):
            logging.getLogger("broker.store").info("reading")
        with telemetry.span(SpanName.AGGREGATE):
            carried, start, end = await work_in_another_process(telemetry.traceparent())
            telemetry.worker_span(SpanName.WORKER, start, end)
        call.status("OK")
    with telemetry.span(SpanName.JOB_ATTEMPT, links=telemetry.links({"traceparent": CALLER})):
        pass
    assert await asyncio.to_thread(session.close, 30.0)

    spans = collector.spans
    _, trace_id, caller_id, _ = CALLER.split("-")
    in_call = [METHOD, SpanName.QUEUE, "SELECT flights", SpanName.AGGREGATE, SpanName.WORKER]
    assert {spans[name].trace_id.hex() for name in in_call} == {trace_id}
    assert spans[METHOD].parent_span_id.hex() == caller_id
    for name in (SpanName.QUEUE, "SELECT flights", SpanName.AGGREGATE):
        assert spans[name].parent_span_id == spans[METHOD].span_id
    assert spans[SpanName.WORKER].parent_span_id == spans[SpanName.AGGREGATE].span_id
    assert (spans[SpanName.WORKER].start_time_unix_nano, spans[SpanName.WORKER].end_time_unix_nano) == (
        start,
        end,
    )
    assert carried.split("-")[2] == spans[SpanName.AGGREGATE].span_id.hex()
    assert spans[SpanName.JOB_ATTEMPT].trace_id.hex() != trace_id
    assert [link.span_id.hex() for link in spans[SpanName.JOB_ATTEMPT].links] == [caller_id]
    assert spans[METHOD].kind == Span.SPAN_KIND_SERVER
    assert plain(spans[METHOD].attributes)["rpc.status_code"] == "OK"

    assert collector.headers["x-key"] == "k"
    assert collector.resource["service.name"] == "querybroker"
    assert collector.resource["service.version"] == "1.2.3"
    assert collector.resource["service.instance.id"] == "i-1"
    (line,) = (json.loads(text) for text in lines.getvalue().splitlines())
    assert (line["trace_id"], line["span_id"]) == (trace_id, spans["SELECT flights"].span_id.hex())
    assert (line["request_id"], line["rpc_method"], line["instance"]) == ("r-1", METHOD, "i-1")


async def test_every_metric_arrives_at_the_collector(collector: Collector) -> None:
    session = setup.start(options(collector.port), io.StringIO())
    record_everything(session.telemetry)
    assert await asyncio.to_thread(session.close, 30.0)
    assert collector.metrics == {metric.name for metric in catalog.METRICS}


async def test_sampling_follows_the_caller_and_else_the_ratio(collector: Collector) -> None:
    session = setup.start(options(collector.port, ratio=0.0), io.StringIO())
    with session.telemetry.server_span("kept", {"traceparent": CALLER}), session.telemetry.span("below"):
        pass
    with session.telemetry.server_span("dropped by the caller", {"traceparent": CALLER[:-2] + "00"}):
        pass
    with session.telemetry.server_span("dropped by the ratio", {}):
        pass
    assert await asyncio.to_thread(session.close, 30.0)
    assert set(collector.spans) == {"kept", "below"}


async def test_a_collector_that_is_gone_costs_no_more_than_the_timeout() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.stop(None)
    session = setup.start(options(port), io.StringIO())
    with session.telemetry.span("lost"):
        pass
    assert not await asyncio.to_thread(session.close, 0.0)
    assert await asyncio.to_thread(session.close, 0.0), "closing again does nothing"


async def test_without_a_collector_spans_carry_ids_and_record_nothing() -> None:
    session = setup.start(TelemetryOptions(), io.StringIO())
    with session.telemetry.span("here") as span:
        assert not span.is_recording()
        assert not span.get_span_context().trace_flags.sampled
        assert session.telemetry.traceparent()
    assert session.scrape is None
    assert await asyncio.to_thread(session.close, 30.0)
