"""Durations of calls that are too many to be told one by one: counted by bucket here, and joined to what is collected.

A histogram of OpenTelemetry is told of each value by itself, which takes eight microseconds, and as long as all else
that is done for a call whose answer is at hand. So of those calls one is told, which makes sure that there is a point
for their method, and the others are added to that point when a reader receives it. Where readers may be extended is
theirs to say: ``MetricReader._receive_metrics`` "is intended to be overridden by subclass" (SDK of OpenTelemetry).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    MetricsData,
    PeriodicExportingMetricReader,
)

from broker.telemetry import names as n
from broker.telemetry.catalog import RPC_DURATION

OK = "OK"
Tell = Callable[[str, float], object]


@dataclass(frozen=True, slots=True)
class _Sums:
    """What was added up: values by bucket, their sum, and the bounds of them all."""

    buckets: tuple[int, ...]
    total: float
    least: float
    most: float


_Told = dict[str, _Sums]
"""By method, what a reader has received that receives only what is new."""


class _Counts:
    """Durations of one method; ``first`` is the one to be told."""

    __slots__ = ("buckets", "first", "least", "most", "total")

    def __init__(self, buckets: int) -> None:
        self.first: float | None = None
        self.buckets, self.total = [0] * buckets, 0.0
        self.least, self.most = float("inf"), 0.0

    def sums(self) -> _Sums:
        return _Sums(tuple(self.buckets), self.total, self.least, self.most)


class Durations:
    """Durations of calls that ended well, by method; added on one thread, read on any."""

    def __init__(self, bounds: Sequence[float] = RPC_DURATION.buckets) -> None:
        self._bounds = tuple(bounds)
        self._counts: dict[str, _Counts] = {}

    def add(self, method: str, seconds: float) -> None:
        """One more."""
        counts = self._counts.get(method)
        if counts is None:
            counts = self._counts[method] = _Counts(len(self._bounds) + 1)
        if counts.first is None:
            counts.first = seconds
            return
        counts.buckets[bisect_left(self._bounds, seconds)] += 1
        counts.total += seconds
        counts.least, counts.most = min(counts.least, seconds), max(counts.most, seconds)

    def tell(self, tell: Tell) -> tuple[()]:
        """Tells of one duration of each method that has a new one. Returns nothing, as a source of gauges does."""
        for method, counts in list(self._counts.items()):
            first = counts.first
            if first is not None:  # until it is taken, nobody sets another
                counts.first = None
                tell(method, first)
        return ()

    def joined(self, collected: MetricsData, told: _Told) -> MetricsData:
        """What was collected, with the others."""
        resources = [
            replace(
                resource,
                scope_metrics=[
                    replace(
                        scope,
                        metrics=[
                            replace(metric, data=self._histogram(metric.data, told))
                            if metric.name == RPC_DURATION.name and isinstance(metric.data, Histogram)
                            else metric
                            for metric in scope.metrics
                        ],
                    )
                    for scope in resource.scope_metrics
                ],
            )
            for resource in collected.resource_metrics
        ]
        return replace(collected, resource_metrics=resources)

    def _histogram(self, data: Histogram, told: _Told) -> Histogram:
        delta = data.aggregation_temporality is AggregationTemporality.DELTA
        return replace(data, data_points=[self._point(point, told, delta) for point in data.data_points])

    def _point(self, point: HistogramDataPoint, told: _Told, delta: bool) -> HistogramDataPoint:
        attributes = point.attributes or {}
        method = str(attributes.get(n.RPC_METHOD, ""))
        counts = self._counts.get(method)
        if counts is None or attributes.get(n.RPC_STATUS) != OK or n.ERROR_TYPE in attributes:
            return point
        sums = counts.sums()
        before = told.get(method) if delta else None
        told[method] = sums
        buckets, total = sums.buckets, sums.total
        if before is not None:
            buckets = tuple(now - then for now, then in zip(buckets, before.buckets, strict=True))
            total -= before.total
        return replace(
            point,
            count=point.count + sum(buckets),
            sum=point.sum + total,
            bucket_counts=[a + b for a, b in zip(point.bucket_counts, buckets, strict=True)],
            min=min(point.min, sums.least),
            max=max(point.max, sums.most),
        )


class _Joining:
    """What makes a reader receive the durations too."""

    def __init__(self, *args: Any, durations: Durations, **options: Any) -> None:
        self._durations = durations
        self._told: _Told = {}
        super().__init__(*args, **options)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        if metrics_data is not None:
            metrics_data = self._durations.joined(metrics_data, self._told)
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)  # type: ignore[misc] # of the reader


class ScrapedReader(_Joining, PrometheusMetricReader):
    """Metrics for Prometheus."""


class SendingReader(_Joining, PeriodicExportingMetricReader):
    """Metrics for a collector."""
