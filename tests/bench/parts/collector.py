"""A collector of telemetry that takes everything and keeps nothing, so that what a broker sends costs what it costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

EXPORTS = ("trace.v1.Trace", "metrics.v1.Metrics")


@dataclass(slots=True)
class Collector:
    """Where it listens, and the bytes that came of each signal."""

    endpoint: str
    traces: int = 0
    metrics: int = 0


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a free port, until the block is left."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    found = Collector(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")

    async def traces(raw: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        found.traces += len(raw)
        return b""  # every response of the protocol is empty when all was taken

    async def metrics(raw: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        found.metrics += len(raw)
        return b""

    for name, handle in zip(EXPORTS, (traces, metrics), strict=True):
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(handle)
        service = f"opentelemetry.proto.collector.{name}Service"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    await server.start()
    try:
        yield found
    finally:
        await server.stop(None)
