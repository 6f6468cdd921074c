"""The dashboard asks for metrics that the broker has, by labels that those metrics carry."""

import pytest

from broker.telemetry.catalog import METRICS
from broker.telemetry.document import prometheus_name
from broker.telemetry.names import MetricKind
from tests.deploy import dashboard

ADDED = {"job", "instance"}
"""Labels that Prometheus gives to everything it reads."""
LABELS = {
    f"{prometheus_name(metric)}{suffix}": {a.replace(".", "_") for a in metric.attributes}
    | ({"le"} if suffix == "_bucket" else set())
    | ADDED
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind is MetricKind.HISTOGRAM else ("",))
}


@pytest.mark.parametrize("panel", dashboard.panels(), ids=lambda panel: panel.title)
def test_a_panel_asks_for_what_there_is(panel: dashboard.Panel) -> None:
    assert panel.queries
    for query in panel.queries:
        assert query.metrics
        assert set(query.metrics) <= set(LABELS)
        for metric, chosen_by in query.metrics.items():
            assert query.grouped | chosen_by <= LABELS[metric]
        assert query.legend <= query.kept


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard.panels():
        for place in panel.places:
            assert taken.setdefault(place, panel.title) == panel.title
