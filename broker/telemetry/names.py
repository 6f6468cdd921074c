"""Names of everything the broker tells about itself: attributes, spans, metrics with their units.

Names of RPC and database telemetry are those of the OpenTelemetry semantic conventions (release candidate for RPC,
stable for databases); the broker's own begin with ``querybroker.``. Values of metric attributes come from closed lists
or from the configuration, so the number of series is bounded: no tenant, no query text, no job id.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = (
    "rpc.status_code"  # `rpc.response.status_code` in packages up to 1.44: renamed after that release
)
ERROR_TYPE = "error.type"
DB_SYSTEM = "db.system.name"
DB_OPERATION = "db.operation.name"
DB_COLLECTION = "db.collection.name"
DB_SUMMARY = "db.query.summary"
DB_STATUS = "db.response.status_code"
DB_POOL = "db.client.connection.pool.name"
DB_CONNECTION_STATE = "db.client.connection.state"
PROCESS_ID = "process.pid"

POOL = "querybroker.pool"
CRITICALITY = "querybroker.criticality"
VERDICT = "querybroker.verdict"
REASON = "querybroker.reason"
METHOD = "querybroker.method"
SOURCE = "querybroker.answer.source"
DEGRADED_REASON = "querybroker.answer.degraded_reason"
DATASET = "querybroker.dataset"
ROLLUP = "querybroker.rollup"
RULE = "querybroker.rollup.rule"
COST_CLASS = "querybroker.cost_class"
BASIS = "querybroker.classification.basis"
OUTCOME = "querybroker.outcome"
OPERATION = "querybroker.operation"
TIER = "querybroker.cache.tier"
RESULT = "querybroker.cache.result"
RUNG_FROM = "querybroker.fallback.from"
RUNG_TO = "querybroker.fallback.to"
JOB_KIND = "querybroker.job.kind"
JOB_STATE = "querybroker.job.state"
STREAM = "querybroker.stream"
BACKEND = "querybroker.backend"
STATE = "querybroker.state"
STAGE = "querybroker.stage"
FACTOR = "querybroker.limiting_factor"

# Attributes of spans only: their values are too many for metrics.
REQUEST_ID = "querybroker.request_id"
QUEUE_SECONDS = "querybroker.queue.duration"
ROWS = "querybroker.rows"
BYTES = "querybroker.bytes"
PANELS = "querybroker.panels"
CANCELLED = "querybroker.cancelled"
DECISION = "querybroker.decision"
"""Name of the event that tells of a decision about a request, and prefix of its attributes."""


class SpanName(StrEnum):
    """Names of the spans that the broker's stages open; RPC spans have the method's name, store spans the summary's."""

    RESOLVE = "querybroker.resolve"
    CLASSIFY = "querybroker.classify"
    QUEUE = "querybroker.queue"
    FOLLOW = "querybroker.follow"
    REFRESH = "querybroker.refresh"
    AGGREGATE = "querybroker.aggregate"
    WORKER = "querybroker.worker"
    JOB_ATTEMPT = "querybroker.job.attempt"
    JOB_EXPORT = "querybroker.job.export"


class MetricKind(StrEnum):
    """How a metric is recorded. Gauges are read from a source when somebody collects."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "up_down_counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, kind, unit (UCUM), meaning, the attributes it may carry, and bounds of its buckets."""

    name: str
    kind: MetricKind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
