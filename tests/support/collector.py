"""A real OTLP receiver that keeps what it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector:
    """What an OpenTelemetry collector would have received."""

    port: int = 0
    spans: dict[str, Span] = field(default_factory=dict)
    every_span: list[Span] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)
    metrics: set[str] = field(default_factory=set)
    headers: dict[str, str] = field(default_factory=dict)

    def of_trace(self, trace_id: str) -> dict[str, Span]:
        """The spans of one trace by name."""
        return {span.name: span for span in self.every_span if span.trace_id.hex() == trace_id}

    async def Export(  # noqa: N802 - the name in the protocol
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Any:
        """Receives traces or metrics."""
        self.headers = {key: str(value) for key, value in context.invocation_metadata() or ()}
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            for resource in request.resource_spans:
                self.resource = plain(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.spans.update({span.name: span for span in scope.spans})
                    self.every_span.extend(scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()
        for measured in request.resource_metrics:
            for scope in measured.scope_metrics:
                self.metrics.update(metric.name for metric in scope.metrics)
        return metrics_service_pb2.ExportMetricsServiceResponse()


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a mapping."""
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A receiver that listens on loopback."""
    received = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(received, server)  # type: ignore[no-untyped-call] # generated
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(received, server)  # type: ignore[no-untyped-call] # generated
    received.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield received
    await server.stop(None)
