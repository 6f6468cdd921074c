"""The OpenTelemetry SDK of one process. Only the composition root imports this; worker processes never do.

The exporters have threads, which do not survive a fork, so a process sets telemetry up for itself once it was started.
Nothing is registered globally: whoever needs telemetry is handed the :class:`Telemetry` object.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from prometheus_client import CollectorRegistry, start_http_server

from broker.telemetry import logs
from broker.telemetry.durations import Durations, ScrapedReader, SendingReader
from broker.telemetry.instruments import SCOPE, Sampled, Telemetry
from broker.telemetry.options import TelemetryOptions


class ScrapeEndpoint:
    """Metrics over HTTP, on a thread of its own. ``port`` is the one that was bound; asking for 0 binds any."""

    def __init__(self, registry: CollectorRegistry, address: str, port: int) -> None:
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot serve metrics on {address}:{port} ({error.strerror}); "
                "choose another metrics port, or 0 for none",
            ) from error
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Stops answering and frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class TelemetrySession:
    """The running SDK: use ``telemetry``, and call :meth:`close` last of all when the process ends."""

    def __init__(self, telemetry: Telemetry, closers: tuple[Callable[[], None], ...]) -> None:
        self.telemetry = telemetry
        self.scrape: ScrapeEndpoint | None = None
        self._closers = closers

    def close(self, timeout: float) -> bool:
        """Sends what is left and ends the exporters; says whether all of it was done within ``timeout`` seconds.

        It blocks, so an event loop calls it through :func:`asyncio.to_thread`. A collector that does not answer costs
        the timeout and no more: the threads that still wait for it do not keep the process alive.
        """
        if self.scrape is not None:
            self.scrape.close()
            self.scrape = None
        threads = [threading.Thread(target=closer, daemon=True) for closer in self._closers]
        self._closers = ()
        for thread in threads:
            thread.start()
        end = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)


def start(options: TelemetryOptions, stream: TextIO = sys.stderr) -> TelemetrySession:
    """Sets up logs on ``stream``, traces and metrics.

    Raises:
        OSError: The metrics port cannot be bound.
    """
    resource = _resource(options)
    registry, durations = CollectorRegistry(), Durations()
    readers: list[MetricReader] = []
    if options.prometheus_port:
        readers.append(ScrapedReader(scope_info_enabled=False, registry=registry, durations=durations))
    if options.otlp_endpoint:
        readers.append(_metric_export(options, durations))
    tracers = TracerProvider(sampler=_sampler(options), resource=resource, shutdown_on_exit=False)
    chosen = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    if options.otlp_endpoint:
        exporting = _span_export(options)
        tracers.add_span_processor(exporting)
        chosen.add_span_processor(exporting)
    ratio = options.sampling_ratio if options.otlp_endpoint else 0.0
    draw = random.Random().random  # noqa: S311 - sampling, not a secret
    sampled = Sampled(lambda: draw() < ratio, chosen.get_tracer(SCOPE))
    exemplars = (
        None if options.otlp_endpoint else AlwaysOffExemplarFilter()
    )  # they name spans, and none is recorded
    recorded = MeterProvider(readers, resource, exemplar_filter=exemplars, shutdown_on_exit=False)
    meters = recorded if readers else NoOpMeterProvider()
    constant = {"service": options.service_name, "instance": options.instance_id}
    if options.process is not None:
        constant["process"] = str(options.process)
    release = logs.configure(stream, options.log_format, options.log_level, constant)
    closers = (tracers.shutdown, recorded.shutdown, release)
    session = TelemetrySession(Telemetry(tracers, meters, sampled=sampled, many=durations), closers)
    if options.prometheus_port:
        try:
            session.scrape = ScrapeEndpoint(registry, options.prometheus_host, options.prometheus_port)
        except OSError:
            session.close(timeout=1.0)
            raise
    return session


def _resource(options: TelemetryOptions) -> Resource:
    return Resource.create(
        {
            "service.name": options.service_name,
            "service.version": options.version,
            "service.instance.id": options.instance_id,
            "process.pid": os.getpid(),
        }
    )


def _sampler(options: TelemetryOptions) -> Sampler:
    """Without an exporter nothing is recorded; spans still carry ids, so that logs can be put together."""
    if not options.otlp_endpoint:
        return ALWAYS_OFF
    return ParentBased(TraceIdRatioBased(options.sampling_ratio))


def _span_export(options: TelemetryOptions) -> BatchSpanProcessor:
    exporter = OTLPSpanExporter(
        endpoint=options.otlp_endpoint,
        insecure=not options.otlp_endpoint.startswith("https"),
        headers=options.otlp_headers,
        timeout=options.otlp_timeout,
    )
    return BatchSpanProcessor(exporter, schedule_delay_millis=options.span_interval * 1000)


def _metric_export(options: TelemetryOptions, durations: Durations) -> SendingReader:
    exporter = OTLPMetricExporter(
        endpoint=options.otlp_endpoint,
        insecure=not options.otlp_endpoint.startswith("https"),
        headers=options.otlp_headers,
        timeout=options.otlp_timeout,
    )
    return SendingReader(exporter, options.metric_interval * 1000, durations=durations)
