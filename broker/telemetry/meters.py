"""Recording metrics under plain names. Values are seconds unless a name says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import isfinite

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation, UpDownCounter

from broker.telemetry import catalog as c
from broker.telemetry import names as n
from broker.telemetry.meters_cache import CacheMeters
from broker.telemetry.meters_rollups import RollupMeters
from broker.telemetry.names import Metric, MetricKind

Reading = tuple[float, Mapping[str, str]]
"""A gauge's value and its attributes."""

Source = Callable[[], Iterable[Reading]]
"""Reads gauges. It is called from a collecting thread, so it must only read plain numbers."""


class Meters(CacheMeters, RollupMeters):
    """The broker's metrics. Every method costs a few microseconds and never raises."""

    def __init__(self, meter: Meter) -> None:
        self._sources: dict[str, list[Source]] = {}
        self._counters: dict[str, Counter] = {}
        self._up_down: dict[str, UpDownCounter] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in c.METRICS:
            self._create(meter, metric)

    def _create(self, meter: Meter, metric: Metric) -> None:
        name, unit, text = metric.name, metric.unit, metric.description
        match metric.kind:
            case MetricKind.COUNTER:
                self._counters[name] = meter.create_counter(name, unit, text)
            case MetricKind.UP_DOWN_COUNTER:
                self._up_down[name] = meter.create_up_down_counter(name, unit, text)
            case MetricKind.HISTOGRAM:
                self._histograms[name] = meter.create_histogram(
                    name, unit, text, explicit_bucket_boundaries_advisory=metric.buckets
                )
            case MetricKind.GAUGE:
                self._sources[name] = []
                meter.create_observable_gauge(name, [partial(self._collect, name)], unit, text)

    def _collect(self, name: str, _options: CallbackOptions) -> list[Observation]:
        return [
            Observation(value, attributes)
            for source in tuple(self._sources[name])
            for value, attributes in source()
        ]

    def observe(self, metric: Metric, source: Source) -> Callable[[], None]:
        """Registers a source of a gauge; the returned function takes it away again."""
        sources = self._sources[metric.name]
        sources.append(source)

        def forget() -> None:
            if source in sources:
                sources.remove(source)

        return forget

    def call(self, method: str, status: str, seconds: float, error_type: str = "") -> None:
        """A finished call; :meth:`Telemetry.server_span` records it by itself."""
        attributes = {n.RPC_SYSTEM: "grpc", n.RPC_METHOD: method, n.RPC_STATUS: status}
        if error_type:
            attributes[n.ERROR_TYPE] = error_type
        self._histograms[c.RPC_DURATION.name].record(seconds, attributes)

    def store_call(
        self,
        operation: str,
        seconds: float,
        *,
        collection: str = "",
        pool: str = "",
        sqlstate: str = "",
        error_type: str = "",
    ) -> None:
        """A finished statement; :meth:`Telemetry.store_span` records it by itself."""
        named = {
            n.DB_OPERATION: operation,
            n.DB_COLLECTION: collection,
            n.DB_POOL: pool,
            n.DB_STATUS: sqlstate,
            n.ERROR_TYPE: error_type,
        }
        attributes = {n.DB_SYSTEM: "postgresql", **{key: value for key, value in named.items() if value}}
        self._histograms[c.DB_DURATION.name].record(seconds, attributes)

    def connection_wait(self, pool: str, seconds: float) -> None:
        """A request got its database connection after so long."""
        self._histograms[c.DB_WAIT.name].record(seconds, {n.DB_POOL: pool})

    def breaker_change(self, backend: str, state: str, reason: str) -> None:
        """A circuit breaker changed to a state."""
        self._counters[c.BREAKER_CHANGES.name].add(1, {n.BACKEND: backend, n.STATE: state, n.REASON: reason})

    def backend_signal(self, backend: str, signal: str) -> None:
        """News of a database that its limit heard."""
        self._counters[c.BACKEND_SIGNALS.name].add(1, {n.BACKEND: backend, n.REASON: signal})

    def breaker_rejection(self, backend: str, outcome: str) -> None:
        """An open breaker kept a call back: ``refused``, or ``diverted`` to the primary."""
        self._counters[c.BREAKER_REJECTIONS.name].add(1, {n.BACKEND: backend, n.OUTCOME: outcome})

    def store_retry(self, backend: str, outcome: str) -> None:
        """A failed call was ``retried``, or given up for want of ``attempts``, ``deadline`` or ``budget``."""
        self._counters[c.STORE_RETRIES.name].add(1, {n.BACKEND: backend, n.OUTCOME: outcome})

    def classified(self, cost_class: str, basis: str) -> None:
        """A question was classified: ``basis`` is what its prediction rests on."""
        self._counters[c.CLASSIFIED.name].add(1, {n.COST_CLASS: cost_class, n.BASIS: basis})

    def admission(self, pool: str, criticality: str, verdict: str, reason: str = "", count: int = 1) -> None:
        """Decisions about requests: verdict ``admitted``, ``refused`` or ``cancelled``, and the refusal's reason."""
        attributes = {n.POOL: pool, n.CRITICALITY: criticality, n.VERDICT: verdict, n.REASON: reason}
        self._counters[c.ADMISSION.name].add(count, attributes)

    def refusal(self, pool: str, reason: str, stage: str, factor: str, count: int = 1) -> None:
        """Refusals: when they were decided, and what gave out."""
        attributes = {n.POOL: pool, n.REASON: reason, n.STAGE: stage, n.FACTOR: factor}
        self._counters[c.REFUSALS.name].add(count, attributes)

    def wait_ratio(self, pool: str, ratio: float) -> None:
        """How long an admitted request waited, over what was expected."""
        self._histograms[c.WAIT_RATIO.name].record(ratio, {n.POOL: pool})

    def queue_wait(self, pool: str, verdict: str, seconds: float) -> None:
        """How long a request waited, whatever came of it."""
        self._histograms[c.QUEUE_DURATION.name].record(seconds, {n.POOL: pool, n.VERDICT: verdict})

    def seat_held(self, pool: str, outcome: str, seconds: float) -> None:
        """How long a request held its seat."""
        self._histograms[c.SEAT_DURATION.name].record(seconds, {n.POOL: pool, n.OUTCOME: outcome})

    def seats_wasted(self, pool: str, outcome: str, seconds: float) -> None:
        """Seat-seconds without an answer: ``dropped`` by deadline or caller, or ``killed`` as hopeless."""
        self._counters[c.SEATS_WASTED.name].add(seconds, {n.POOL: pool, n.OUTCOME: outcome})

    def deadline_remaining(self, pool: str, seconds: float) -> None:
        """What was left of the deadline at admission."""
        if isfinite(seconds):  # work without a deadline has no time left to tell
            self._histograms[c.DEADLINE_REMAINING.name].record(seconds, {n.POOL: pool})

    def answer(self, method: str, source: str, degraded_reason: str = "", age: float | None = None) -> None:
        """An answer: ``source`` is its AnswerKind, ``age`` its staleness."""
        attributes = {n.METHOD: method, n.SOURCE: source, n.DEGRADED_REASON: degraded_reason}
        self._counters[c.ANSWERS.name].add(1, attributes)
        if age is not None:
            self._histograms[c.ANSWER_AGE.name].record(age, {n.SOURCE: source})

    def cache_lookup(self, tier: str, result: str, count: int = 1) -> None:
        """Lookups: ``hit``, ``miss``, ``error`` in a tier; ``fresh``, ``stale``, ``miss`` of questions."""
        self._counters[c.CACHE_LOOKUPS.name].add(count, {n.TIER: tier, n.RESULT: result})

    def flight_followers(self, method: str, count: int = 1) -> None:
        """Requests that joined an identical query."""
        self._counters[c.FLIGHT_FOLLOWERS.name].add(count, {n.METHOD: method})

    def fallback(self, from_rung: str, to_rung: str, reason: str) -> None:
        """A step down the ladder, by the reason that forced it."""
        attributes = {n.RUNG_FROM: from_rung, n.RUNG_TO: to_rung, n.REASON: reason}
        self._counters[c.FALLBACK.name].add(1, attributes)

    def aggregation(self, pool: str, operation: str, outcome: str, seconds: float) -> None:
        """A task of a worker process."""
        attributes = {n.POOL: pool, n.OPERATION: operation, n.OUTCOME: outcome}
        self._histograms[c.AGGREGATION_DURATION.name].record(seconds, attributes)

    def worker_restart(self, pool: str, reason: str) -> None:
        """A worker process was replaced: ``reason`` is ``deadline``, ``cancelled``, ``crashed`` or ``memory``."""
        self._counters[c.WORKER_RESTARTS.name].add(1, {n.POOL: pool, n.REASON: reason})

    def loop_lag(self, seconds: float) -> None:
        """One sample of the event loop's lag."""
        self._histograms[c.LOOP_LAG.name].record(seconds)

    def decisions_lost(self, count: int) -> None:
        """Events that are not in the decision log."""
        self._counters[c.DECISIONS_LOST.name].add(count)

    def job_attempt(self, kind: str, outcome: str, seconds: float) -> None:
        """An attempt of a job ended: ``outcome`` is ``succeeded``, ``failed``, ``cancelled`` or ``released``."""
        self._histograms[c.JOB_DURATION.name].record(seconds, {n.JOB_KIND: kind, n.OUTCOME: outcome})

    def watch_streams(self, stream: str, change: int) -> None:
        """A stream was opened (+1) or closed (-1): ``stream`` is ``job`` or ``state``."""
        self._up_down[c.WATCH_STREAMS.name].add(change, {n.STREAM: stream})
