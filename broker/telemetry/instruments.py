"""The one object through which the broker speaks of itself: spans here, metrics inherited from :class:`Meters`.

It knows the OpenTelemetry API only. Whoever builds the process hands it providers (`telemetry.setup` makes real ones);
with :meth:`Telemetry.off` it does nothing at almost no cost. Below a span that is not sampled no other one is begun:
samplers here follow the parent, so it would not be sampled either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import getrandbits
from typing import Protocol, cast

from opentelemetry import context as otel
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    NoOpTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TracerProvider,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from broker.domain.answer import AnswerKind
from broker.telemetry import catalog as c
from broker.telemetry import names as n
from broker.telemetry.carrier import Carrier
from broker.telemetry.meters import Meters
from broker.telemetry.names import SpanName
from broker.telemetry.spans import (
    UNSAMPLED,
    ServerScope,
    SpanScope,
    StoreScope,
    UnsampledScope,
    UnsampledStoreScope,
    record_error,
    unsampled,
)
from broker.telemetry.tally import Key, Tally

SCOPE = "querybroker"
"""Name of the instrumentation scope of every span and metric."""

Value = str | bool | int | float
_NO_CONTEXT = Context()
_UNKEPT = TraceFlags(TraceFlags.RANDOM_TRACE_ID)
_FRESH = AnswerKind.CACHE_FRESH.value
CARRIED = frozenset({"traceparent", "tracestate", "baggage"})
"""Headers by which a trace, and what is said beside it, comes from elsewhere."""
_UNSAMPLED = "-00"
"""How a W3C ``traceparent`` ends whose caller keeps no trace."""
Attributes = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Sampled:
    """Which traces are kept of those that begin here: ``draw`` says it, and ``tracer`` begins those that are.

    Of the traces of callers those are kept that they keep.
    """

    draw: Callable[[], bool]
    tracer: Tracer
    bits: Callable[[int], int] = getrandbits

    def unseen(self) -> Span:
        """A span of a trace that is not kept; it has ids all the same, so that logs can be put together."""
        ids = SpanContext(self.bits(128) or 1, self.bits(64) or 1, is_remote=False, trace_flags=_UNKEPT)
        return NonRecordingSpan(ids)


class Many(Protocol):
    """Adds up durations of calls, by method; see :class:`broker.telemetry.durations.Durations`."""

    def add(self, method: str, seconds: float) -> None:
        """One more."""
        ...

    def tell(self, tell: Callable[[str, float], object]) -> tuple[()]:
        """Tells of one of each method; is asked whenever somebody collects. Returns nothing."""
        ...


class Telemetry(Meters):
    """Spans and metrics of one process. ``clock`` measures durations in seconds.

    With ``sampled`` it is known before a span is begun whether anybody will see it, where that is worth knowing;
    ``many`` takes the durations of calls that are too many to be told one by one.
    """

    def __init__(
        self,
        tracers: TracerProvider,
        meters: MeterProvider,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sampled: Sampled | None = None,
        many: Many | None = None,
    ) -> None:
        super().__init__(meters.get_meter(SCOPE))
        self._tracer = tracers.get_tracer(SCOPE)
        self._clock, self._sampled = clock, sampled
        self._answers = Tally(self._count_answers)
        self._well: Callable[[str, float], object] = self._ended_well if many is None else many.add
        self.observe(c.MEMORY, self._answers.flush)
        if many is not None:
            self.observe(c.MEMORY, lambda: many.tell(self._ended_well))
        self._propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])

    @classmethod
    def off(cls) -> Telemetry:
        """Telemetry that goes nowhere."""
        return cls(NoOpTracerProvider(), NoOpMeterProvider())

    def span(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        links: Sequence[Link] = (),
        parent: Context | None = None,
    ) -> SpanScope:
        """A span below the current one, or below ``parent``, current inside the ``with``; gives the API's span.

        An exception that leaves it is recorded: a :class:`BrokerError` by its reason, any other with its stack, a
        cancellation as an attribute.
        """
        if parent is None and (scope := _unsampled()) is not None:
            return scope
        return SpanScope(self._tracer.start_span(name, parent, kind, attributes, links), parent)

    def server_span(
        self,
        method: str,
        metadata: Mapping[str, str],
        *,
        request_id: str = "",
        attributes: Attributes | None = None,
    ) -> ServerScope:
        """The span of a call that this process serves, below the caller's span when the metadata names one.

        ``method`` is fully qualified without a leading slash, or ``_OTHER`` when unknown. Inside the ``with``, logs
        carry the request id. Gives a :class:`ServerCall`, and records ``rpc.server.call.duration`` at the end.
        """
        above, tracer = self.extract(metadata), self._tracer
        parent = Context({**above, n.REQUEST_ID: request_id, n.RPC_METHOD: method})
        span: Span | None = None
        if self._sampled is not None and not above:
            if self._sampled.draw():
                tracer = self._sampled.tracer
            else:
                span = self._sampled.unseen()
        if span is None:
            named: dict[str, Value] = {n.RPC_SYSTEM: "grpc", n.RPC_METHOD: method, **(attributes or {})}
            if request_id:
                named[n.REQUEST_ID] = request_id
            span = tracer.start_span(method, parent, SpanKind.SERVER, named)
        return ServerScope(span, parent, self._clock, method, self.call)

    def recalled(
        self,
        method: str,
        metadata: Mapping[str, str],
        request_id: str,
        count: int,
        seconds: float,
    ) -> None:
        """Tells of a call that was answered unread: its duration, its ``count`` answers, and its span if sampled."""
        self._answers.add((method,), count)
        self._well(method, seconds)
        caller = metadata.get("traceparent")
        tracer, parent = self._tracer, _NO_CONTEXT
        if caller is not None:
            if self._sampled is not None and caller.endswith(_UNSAMPLED):
                return
            parent = self.extract(metadata)
        elif self._sampled is not None:
            if not self._sampled.draw():
                return
            tracer = self._sampled.tracer
        span = tracer.start_span(method, parent, SpanKind.SERVER)
        if span.is_recording():
            named = {n.RPC_SYSTEM: "grpc", n.RPC_METHOD: method, n.RPC_STATUS: "OK", n.SOURCE: _FRESH}
            span.set_attributes({**named, n.REQUEST_ID: request_id})
        span.end()

    def _ended_well(self, method: str, seconds: float) -> None:
        self.call(method, "OK", seconds)

    def _count_answers(self, key: Key, count: int) -> None:
        """Of their age only a bound is known to anybody but the caller: it is not among the ages of answers."""
        (method,) = key
        self._counters[c.ANSWERS.name].add(count, {n.METHOD: method, n.SOURCE: _FRESH, n.DEGRADED_REASON: ""})
        self._counters[c.CACHE_LOOKUPS.name].add(count, {n.TIER: "answer", n.RESULT: "fresh"})

    def store_span(
        self,
        operation: str,
        summary: str,
        *,
        collection: str = "",
        pool: str = "",
        attributes: Attributes | None = None,
    ) -> StoreScope:
        """The span of one statement, named by its summary (``SELECT flights``: operation and tables, never values).

        ``operation`` is ``SELECT``, ``COPY`` and so on, ``collection`` the main table or dataset, ``pool`` the
        connection pool. Errors with an SQLSTATE (``error.sqlstate`` or the metadata of a BrokerError) carry it. Records
        ``db.client.operation.duration`` at the end.
        """

        def finished(seconds: float, sqlstate: str, error: str) -> None:
            self.store_call(
                operation, seconds, collection=collection, pool=pool, sqlstate=sqlstate, error_type=error
            )

        if (scope := _unsampled()) is not None:
            return UnsampledStoreScope(scope.span, self._clock, finished)
        named = {n.DB_SYSTEM: "postgresql", n.DB_OPERATION: operation, n.DB_SUMMARY: summary}
        if collection:
            named[n.DB_COLLECTION] = collection
        if pool:
            named[n.DB_POOL] = pool
        span = self._tracer.start_span(
            summary or operation, None, SpanKind.CLIENT, {**named, **(attributes or {})}
        )
        return StoreScope(span, self._clock, finished)

    def worker_span(
        self,
        name: str,
        start_ns: int,
        end_ns: int,
        *,
        attributes: Attributes | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Records a span that a worker process has already lived through, below the current span.

        The times are :func:`time.time_ns` of the worker; workers export nothing, they hand their times back.
        """
        span = self._tracer.start_span(
            name or SpanName.WORKER, None, SpanKind.INTERNAL, attributes, start_time=start_ns
        )
        if error is not None:
            record_error(span, error)
        span.end(end_ns)

    def inject(self) -> dict[str, str]:
        """The current span as W3C headers, empty outside of any span."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    def carrier(self) -> Mapping[str, str]:
        """The same headers, found when somebody looks: for calls of which few leave anything behind."""
        return Carrier(self._propagator, otel.get_current())

    def traceparent(self) -> str:
        """The current span as one W3C string, empty outside of any span."""
        return self.inject().get("traceparent", "")

    def extract(self, metadata: Mapping[str, str]) -> Context:
        """The context that W3C headers (lower-case names) describe; below it spans continue the caller's trace."""
        if not CARRIED.intersection(metadata):
            return _NO_CONTEXT
        return self._propagator.extract(metadata, Context())

    def links(self, *carriers: Mapping[str, str]) -> tuple[Link, ...]:
        """Links to the spans that W3C headers describe, for work that began elsewhere, such as a job's submission."""
        contexts = (get_current_span(self._propagator.extract(c, Context())) for c in carriers)
        return tuple(Link(s.get_span_context()) for s in contexts if s.get_span_context().is_valid)


def _unsampled() -> UnsampledScope | None:
    """What stands for all spans below the current one, if that is not sampled."""
    known = otel.get_current().get(UNSAMPLED)
    if known is not None:
        return cast("UnsampledScope", known)
    current = get_current_span()
    return UnsampledScope(current) if unsampled(current) else None
