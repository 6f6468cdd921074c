"""Reading back what was recorded as metrics."""

from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint


def read(reader: InMemoryMetricReader) -> dict[str, dict[tuple[str, ...], float]]:
    """Values (sums of histograms) by metric, and by the values of the attributes in the order of their names."""
    data = reader.get_metrics_data()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found[metric.name] = {}
                for point in metric.data.data_points:
                    assert isinstance(point, NumberDataPoint | HistogramDataPoint)
                    labels = tuple(str(value) for _, value in sorted((point.attributes or {}).items()))
                    value = point.value if isinstance(point, NumberDataPoint) else point.sum
                    found[metric.name][labels] = value
    return found
