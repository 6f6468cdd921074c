"""Calls that are answered unread have a span where somebody keeps their trace."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from broker.telemetry.instruments import Sampled, Telemetry

SAMPLED = f"00-{'4b' * 16}-{'0f' * 8}-01"


@pytest.mark.parametrize(
    ("header", "drawn", "kept"),
    [
        ("", True, True),
        ("", False, False),
        (SAMPLED, False, True),
        (SAMPLED.removesuffix("01") + "00", True, False),
    ],
)
def test_a_recalled_call_has_a_span_where_its_trace_is_kept(header: str, drawn: bool, kept: bool) -> None:
    exporter = InMemorySpanExporter()
    tracers, chosen = (
        TracerProvider(s, shutdown_on_exit=False) for s in (ParentBased(ALWAYS_OFF), ALWAYS_ON)
    )
    for provider in (tracers, chosen):
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    sampled = Sampled(lambda: drawn, chosen.get_tracer("t"))
    telemetry = Telemetry(tracers, MeterProvider(shutdown_on_exit=False), sampled=sampled)
    telemetry.recalled("s/M", {"traceparent": header} if header else {}, "id-1", 1, 0.001)
    spans = exporter.get_finished_spans()
    assert len(spans) == kept
    for span in spans:
        assert (span.attributes or {})["querybroker.request_id"] == "id-1"
        assert span.context is not None
        assert (format(span.context.trace_id, "032x") == "4b" * 16) == bool(header)
