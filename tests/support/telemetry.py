"""One value for every metric that the broker has."""

from collections.abc import Mapping
from functools import partial

from broker.telemetry import catalog, catalog_rollups
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading
from broker.telemetry.names import MetricKind

OF_TROUBLE = {
    catalog.REFUSALS, catalog.WAIT_RATIO, catalog.SEATS_WASTED, catalog.DECISIONS_LOST,
    catalog.BREAKER_CHANGES, catalog.BREAKER_REJECTIONS, catalog.STORE_RETRIES,
    catalog.BACKEND_SIGNALS, catalog.BACKEND_SESSIONS, *catalog_rollups.METRICS,
}  # fmt: skip
"""Metrics that begin with the first wait, refusal or trouble, where the limit of a database adapts, or with
the first rollup."""


def record_everything(telemetry: Telemetry) -> None:
    """Records every metric once, with every attribute that it may carry."""
    telemetry.call("querybroker.v1.QueryService/Dashboard", "UNAVAILABLE", 0.1, "OVERLOADED")
    telemetry.store_call(
        "SELECT", 0.1, collection="flights", pool="dashboard", sqlstate="57014", error_type="cancelled"
    )
    telemetry.connection_wait("dashboard", 0.01)
    telemetry.breaker_change("primary", "open", "failures_in_a_row")
    telemetry.breaker_rejection("primary", "refused")
    telemetry.backend_signal("primary", "recovered")
    telemetry.store_retry("primary", "retried")
    telemetry.classified("exploration", "history")
    telemetry.admission("dashboard", "critical", "refused", "OVERLOADED")
    telemetry.refusal("dashboard", "OVERLOADED", "arrival", "wait_budget")
    telemetry.queue_wait("dashboard", "refused", 0.02)
    telemetry.wait_ratio("dashboard", 1.2)
    telemetry.seat_held("dashboard", "success", 0.2)
    telemetry.seats_wasted("dashboard", "killed", 0.2)
    telemetry.decisions_lost(3)
    telemetry.deadline_remaining("dashboard", 2.5)
    telemetry.answer("Dashboard", "cache_stale", "overload_pool_full", age=12.0)
    telemetry.cache_lookup("memory", "hit")
    telemetry.cache_eviction("memory", "room")
    telemetry.cache_refresh("read")
    telemetry.change_look("quiet", 0.001)
    telemetry.flight_followers("Dashboard", 3)
    telemetry.fallback("live", "cache_stale", "overload_pool_full")
    telemetry.aggregation("dashboard", "table", "success", 0.03)
    telemetry.worker_restart("dashboard", "deadline")
    telemetry.loop_lag(0.002)
    telemetry.job_attempt("export", "succeeded", 120.0)
    telemetry.watch_streams("job", +1)
    telemetry.rollup_answer("flights", "by_day", "rejected", "KEYS")
    telemetry.rollup_live_share("flights", 0.01)
    telemetry.mirror_fetch("fetched", 4096)
    telemetry.mirror_eviction("space")
    telemetry.rollup_refresh("flights", "by_day", "refreshed", 1.5, rows=1000)
    telemetry.rollup_quarantine("flights", "by_day")
    telemetry.rollup_verification("flights", "equal")
    for metric in catalog.METRICS:
        if metric.kind is MetricKind.GAUGE:
            telemetry.observe(metric, partial(_seven, dict.fromkeys(metric.attributes, "dashboard")))


def _seven(labels: Mapping[str, str]) -> list[Reading]:
    return [(7.0, labels)]
