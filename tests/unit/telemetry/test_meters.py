"""Metrics are recorded under their names, with the attributes that are documented and no others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.telemetry import catalog, catalog_cache, catalog_rollups
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import Metric, MetricKind
from tests.support.metrics import read
from tests.support.telemetry import record_everything


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def telemetry(reader: InMemoryMetricReader) -> Iterator[Telemetry]:
    meters = MeterProvider([reader], shutdown_on_exit=False)
    yield Telemetry(NoOpTracerProvider(), meters)
    meters.shutdown()


def test_every_metric_is_recorded_with_exactly_its_documented_attributes(
    telemetry: Telemetry, reader: InMemoryMetricReader
) -> None:
    record_everything(telemetry)
    data = reader.get_metrics_data()
    assert data is not None
    seen: dict[str, set[str]] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                seen[metric.name] = {
                    name for point in metric.data.data_points for name in point.attributes or {}
                }
    assert seen == {metric.name: set(metric.attributes) for metric in catalog.METRICS}


def test_the_catalog_lists_every_metric_once() -> None:
    modules = (catalog, catalog_cache, catalog_rollups)
    declared = {value for m in modules for value in vars(m).values() if isinstance(value, Metric)}
    assert len(catalog.METRICS) == len(declared)
    assert set(catalog.METRICS) == declared
    assert len({metric.name for metric in catalog.METRICS}) == len(catalog.METRICS)


@pytest.mark.parametrize("metric", catalog.METRICS, ids=lambda metric: str(metric.name))
def test_names_and_units_follow_the_conventions(metric: Metric) -> None:
    assert metric.name.islower()
    assert not metric.name.endswith(("_total", "_seconds", "_bytes"))
    assert metric.unit in {"s", "By"} or (metric.unit.startswith("{") and metric.unit.endswith("}"))
    assert bool(metric.buckets) is (metric.kind is MetricKind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.description.endswith(".")


def test_a_gauge_is_read_from_all_its_sources_until_they_are_taken_away(
    telemetry: Telemetry, reader: InMemoryMetricReader
) -> None:
    values = {"a": 1.0}
    forget = telemetry.observe(catalog.SEAT_USAGE, lambda: [(values["a"], {"querybroker.pool": "a"})])
    telemetry.observe(catalog.SEAT_USAGE, lambda: [(5, {"querybroker.pool": "b"})])
    assert read(reader)[catalog.SEAT_USAGE.name] == {("a",): 1.0, ("b",): 5}
    values["a"] = 2.0
    assert read(reader)[catalog.SEAT_USAGE.name] == {("a",): 2.0, ("b",): 5}
    forget()
    forget()
    assert read(reader)[catalog.SEAT_USAGE.name] == {("b",): 5}


def test_streams_are_counted_up_and_down(telemetry: Telemetry, reader: InMemoryMetricReader) -> None:
    for change in (+1, +1, -1):
        telemetry.watch_streams("job", change)
    assert read(reader)["querybroker.watch.streams"] == {("job",): 1}


def test_the_age_of_an_answer_is_optional(telemetry: Telemetry, reader: InMemoryMetricReader) -> None:
    telemetry.answer("Dashboard", "live")
    found = read(reader)
    assert found["querybroker.answer.count"] == {("", "live", "Dashboard"): 1}
    assert "querybroker.answer.age" not in found
