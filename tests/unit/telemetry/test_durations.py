"""Durations that are added up are collected as if each had been told."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, HistogramDataPoint, InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry, generate_latest

from broker.telemetry.catalog import RPC_DURATION
from broker.telemetry.durations import Durations, ScrapedReader, _Joining
from broker.telemetry.instruments import Telemetry

METHOD = "querybroker.v1.QueryService/Dashboard"
SECONDS = (0.0004, 0.0006, 0.0004, 0.03, 7.0, 0.0002)


class Kept(_Joining, InMemoryMetricReader):
    """A reader whose metrics are looked at."""

    def point(self, method: str = METHOD, status: str = "OK") -> HistogramDataPoint | None:
        data = self.get_metrics_data()
        if data is None:
            return None
        found: list[Any] = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == RPC_DURATION.name
            for point in metric.data.data_points
            if (point.attributes or {})["rpc.method"] == method
            and (point.attributes or {})["rpc.status_code"] == status
        ]
        return found[0] if found else None


def telling(temporality: AggregationTemporality, many: Durations | None) -> tuple[Telemetry, Kept]:
    """Telemetry that adds up, or tells of each."""
    reader = Kept(preferred_temporality={Histogram: temporality}, durations=many or Durations())
    return Telemetry(NoOpTracerProvider(), MeterProvider([reader], shutdown_on_exit=False), many=many), reader


def called(telemetry: Telemetry, seconds: float) -> None:
    telemetry.recalled(METHOD, {}, "id", 1, seconds)


def told(point: HistogramDataPoint | None) -> tuple[object, ...]:
    assert point is not None
    return point.count, list(point.bucket_counts), round(point.sum, 9), point.min, point.max


def test_they_are_collected_as_if_each_had_been_told() -> None:
    kind = AggregationTemporality.CUMULATIVE
    (joined, one), (each, other) = telling(kind, Durations()), telling(kind, None)
    for part in (SECONDS[:1], SECONDS[1:3], (), SECONDS[3:]):
        for telemetry in (joined, each):
            telemetry.call(METHOD, "OK", 0.5)
            telemetry.call(METHOD, "UNAVAILABLE", 0.1, "OVERLOADED")
            for seconds in part:
                called(telemetry, seconds)
        assert told(one.point()) == told(other.point())
        assert told(one.point(status="UNAVAILABLE")) == told(other.point(status="UNAVAILABLE"))


def test_a_reader_that_wants_what_is_new_receives_each_once() -> None:
    telemetry, reader = telling(AggregationTemporality.DELTA, Durations())
    counts = []
    for part in (SECONDS[:4], (), SECONDS[4:]):
        for seconds in part:
            called(telemetry, seconds)
        point = reader.point()
        counts.append(None if point is None else (point.count, sum(point.bucket_counts), round(point.sum, 9)))
    assert counts == [(4, 4, round(sum(SECONDS[:4]), 9)), None, (2, 2, round(sum(SECONDS[4:]), 9))]


def test_prometheus_scrapes_them() -> None:
    registry, many = CollectorRegistry(), Durations()
    meters = MeterProvider([ScrapedReader(registry=registry, durations=many)], shutdown_on_exit=False)
    telemetry = Telemetry(NoOpTracerProvider(), meters, many=many)
    for seconds in SECONDS:
        called(telemetry, seconds)
    for _ in range(2):
        (line,) = [
            line
            for line in generate_latest(registry).decode().splitlines()
            if line.startswith("rpc_server_call_duration_seconds_count")
        ]
        assert line.endswith(" 6.0")
