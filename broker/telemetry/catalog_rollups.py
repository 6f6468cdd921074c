"""The metrics of rollups; part of :data:`broker.telemetry.catalog.METRICS`."""

from __future__ import annotations

from broker.telemetry import names as n
from broker.telemetry.names import Metric, MetricKind

_NAMED = (n.DATASET, n.ROLLUP)
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
_SHARES = (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)

ANSWERS = Metric(
    "querybroker.rollup.answers",
    MetricKind.COUNTER,
    "{scan}",
    "Scans for which a rollup was looked at: it answered all, answered beside live pieces or other rollups, or was "
    "passed over by a rule.",
    (*_NAMED, n.OUTCOME, n.RULE),
)
LIVE_SHARE = Metric(
    "querybroker.rollup.live_share",
    MetricKind.HISTOGRAM,
    "{ratio}",
    "Share of the range that was read live beside rollups.",
    (n.DATASET,),
    _SHARES,
)
FETCHES = Metric(
    "querybroker.rollup.mirror.fetches",
    MetricKind.COUNTER,
    "{file}",
    "Segment files that the mirror needed: fetched, found on disk, corrupt, gone, or not to be had.",
    (n.OUTCOME,),
)
FETCHED = Metric(
    "querybroker.rollup.mirror.fetched",
    MetricKind.COUNTER,
    "By",
    "Bytes of segment files that were fetched from the database.",
)
PENDING = Metric(
    "querybroker.rollup.mirror.pending",
    MetricKind.GAUGE,
    "{file}",
    "Segment files that are asked for and not there yet.",
)
MIRROR_FILES = Metric(
    "querybroker.rollup.mirror.files", MetricKind.GAUGE, "{file}", "Segment files in the mirror."
)
MIRROR_USAGE = Metric(
    "querybroker.rollup.mirror.usage", MetricKind.GAUGE, "By", "Bytes of segment files in the mirror."
)
MIRROR_LIMIT = Metric(
    "querybroker.rollup.mirror.limit", MetricKind.GAUGE, "By", "Bytes that the mirror may hold."
)
EVICTIONS = Metric(
    "querybroker.rollup.mirror.evictions",
    MetricKind.COUNTER,
    "{file}",
    "Segment files that left the mirror: for want of space, replaced by a newer version, or reported as unreadable.",
    (n.REASON,),
)
REFRESH_DURATION = Metric(
    "querybroker.rollup.refresh.duration",
    MetricKind.HISTOGRAM,
    "s",
    "Duration of building or refreshing one partition.",
    (*_NAMED, n.OUTCOME),
    _SECONDS,
)
REFRESH_ROWS = Metric(
    "querybroker.rollup.refresh.rows",
    MetricKind.COUNTER,
    "{row}",
    "Rows of segments that were built.",
    _NAMED,
)
DIRTY = Metric(
    "querybroker.rollup.dirty",
    MetricKind.GAUGE,
    "{span}",
    "Intervals that have changed since they were built.",
    _NAMED,
)
LAG = Metric(
    "querybroker.rollup.refresh.lag",
    MetricKind.GAUGE,
    "s",
    "Age of the oldest segment of which a part has changed since; 0 where nothing has.",
    _NAMED,
)
QUARANTINES = Metric(
    "querybroker.rollup.quarantines",
    MetricKind.COUNTER,
    "{rollup}",
    "Rollups that were taken out of service because a comparison with the source failed.",
    _NAMED,
)
VERIFICATIONS = Metric(
    "querybroker.rollup.verifications",
    MetricKind.COUNTER,
    "{answer}",
    "Answers from rollups that were offered for a second computation: equal, different, not comparable, failed, or "
    "dropped for want of idle seats.",
    (n.DATASET, n.OUTCOME),
)

METRICS: tuple[Metric, ...] = (
    ANSWERS, LIVE_SHARE, FETCHES, FETCHED, PENDING, MIRROR_FILES, MIRROR_USAGE, MIRROR_LIMIT, EVICTIONS,
    REFRESH_DURATION, REFRESH_ROWS, DIRTY, LAG, QUARANTINES, VERIFICATIONS,
)  # fmt: skip
