"""The metrics of the cache: what it holds, what is read again behind answers, and how changes are seen."""

from __future__ import annotations

from broker.telemetry import names as n
from broker.telemetry.names import Metric, MetricKind

CACHE_SIZE = Metric(
    "querybroker.cache.size",
    MetricKind.GAUGE,
    "By",
    "Bytes that held answers take in the memory of the process.",
    (n.TIER,),
)
CACHE_ENTRIES = Metric(
    "querybroker.cache.entries",
    MetricKind.GAUGE,
    "{answer}",
    "Answers held in the memory of the process.",
    (n.TIER,),
)
EVICTIONS = Metric(
    "querybroker.cache.evictions",
    MetricKind.COUNTER,
    "{answer}",
    "Answers that a tier let go to make room, found corrupt, or did not take because too many waited to be written or "
    "it failed.",
    (n.TIER, n.REASON),
)
REFRESHES = Metric(
    "querybroker.cache.refreshes",
    MetricKind.COUNTER,
    "{answer}",
    "Held answers that were to be read again: read, refused a seat and given up, put off while the database is away, "
    "failed, or dropped because too many wait.",
    (n.OUTCOME,),
)
REFRESHES_WAITING = Metric(
    "querybroker.cache.refreshes.waiting",
    MetricKind.GAUGE,
    "{answer}",
    "Held answers that wait to be read again.",
)
LOOK_DURATION = Metric(
    "querybroker.cache.changes.duration",
    MetricKind.HISTOGRAM,
    "s",
    "Duration of a look at the changes of all tracked datasets.",
    (n.OUTCOME,),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
LOOK_AGE = Metric(
    "querybroker.cache.changes.age",
    MetricKind.GAUGE,
    "s",
    "Age of the last look at the changes of a dataset; -1 while they cannot be seen, so that its answers go by age.",
    (n.DATASET,),
)

METRICS: tuple[Metric, ...] = (
    CACHE_SIZE, CACHE_ENTRIES, EVICTIONS, REFRESHES, REFRESHES_WAITING, LOOK_DURATION, LOOK_AGE
)  # fmt: skip
