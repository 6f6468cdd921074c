"""The answer: an immutable table as bytes, and a status that is computed for every reply."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from broker.domain.values import Column, ResultFormat


class AnswerKind(StrEnum):
    """Kind of source, best first; the last is what a job made, which is asked for by its own name."""

    LIVE = "live"
    CACHE_FRESH = "cache_fresh"
    ROLLUP = "rollup"
    HYBRID = "hybrid"
    CACHE_STALE = "cache_stale"
    ROLLUP_STALE = "rollup_stale"
    ESTIMATE = "estimate"
    MATERIALIZED = "materialized"


class Exactness(StrEnum):
    """How exact the values are."""

    EXACT = "exact"
    BOUNDED = "bounded"
    ESTIMATED = "estimated"
    SNAPPED = "snapped"
    PARTIAL = "partial"


class CostClass(StrEnum):
    """Class of a request by what it costs."""

    TRIVIAL = "trivial"
    DASHBOARD = "dashboard"
    EXPLORATION = "exploration"
    JOB = "job"


class DegradationReason(StrEnum):
    """Why an answer is degraded or delayed; the same closed list as the proto enum."""

    OVERLOAD_POOL_FULL = "overload_pool_full"
    OVERLOAD_UPSTREAM_LIMIT = "overload_upstream_limit"
    PREDICTED_OVER_DEADLINE = "predicted_over_deadline"
    DEADLINE_EXPIRED_UPSTREAM = "deadline_expired_upstream"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    CIRCUIT_OPEN = "circuit_open"
    TENANT_QUOTA = "tenant_quota"
    COST_CEILING = "cost_ceiling"
    ROLLUP_NOT_BUILT = "rollup_not_built"
    ROLLUP_DIRTY = "rollup_dirty"
    ROLLUP_QUARANTINED = "rollup_quarantined"
    REVALIDATING = "revalidating"
    POLICY_CACHE_ONLY = "policy_cache_only"
    BROKER_PRESSURE = "broker_pressure"
    BROWNOUT = "brownout"
    WORKER_LOST = "worker_lost"
    DRAINING = "draining"


class Guarantee(StrEnum):
    """What is promised about the age of the data."""

    SNAPSHOT = "snapshot"
    LATENESS_BOUND = "lateness_bound"
    BOUNDED_STALENESS = "bounded_staleness"
    NONE = "none"


class PartSource(StrEnum):
    """Where a piece was read."""

    LIVE = "live"
    ROLLUP = "rollup"
    CACHE = "cache"
    SAMPLE = "sample"
    MATERIALIZED = "materialized"


class Rung(StrEnum):
    """A rung of the fallback ladder, best first."""

    CACHE_FRESH = "cache_fresh"
    ROLLUP = "rollup"
    LIVE = "live"
    CACHE_STALE = "cache_stale"
    ROLLUP_STALE = "rollup_stale"
    ESTIMATE = "estimate"
    REFUSAL = "refusal"


class Verdict(StrEnum):
    """What came of a rung."""

    ANSWERED = "answered"
    NOT_APPLICABLE = "not_applicable"
    FORBIDDEN = "forbidden"
    REFUSED = "refused"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Interval:
    """A half-open interval of instants; None is unbounded."""

    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A disjoint piece of the answer; ``replica_lag`` in seconds."""

    source: PartSource
    source_name: str
    as_of: datetime
    interval: Interval | None = None
    source_version: str = ""
    row_count: int = 0
    share: float = 0.0
    replica_lag: float | None = None


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """Error bound of one measure: ``method`` is HLL, KLL or BLOCK_SAMPLE.

    Where every row has limits of its own, they are in the columns ``lower`` and ``upper``, and ``relative_error`` is
    the widest. ``suppressed`` counts the groups that were left out because the sample says too little about them.
    """

    measure: str
    method: str
    relative_error: float
    confidence: float
    lower: str = ""
    upper: str = ""
    suppressed: int = 0


@dataclass(frozen=True, slots=True)
class LadderStep:
    """One source that was considered; ``duration`` in seconds, ``detail`` says for people what the codes are about."""

    rung: Rung
    verdict: Verdict
    source_name: str = ""
    codes: tuple[str, ...] = ()
    duration: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What work costs: seconds, rows, bytes, seats."""

    duration_p50: float = 0.0
    duration_p90: float = 0.0
    row_count: int = 0
    byte_count: int = 0
    seats: float = 1.0


@dataclass(frozen=True, slots=True)
class AnswerStatus:
    """What an answer is worth; see the proto message of the same name. Durations are in seconds."""

    kind: AnswerKind
    exactness: Exactness
    as_of: datetime
    staleness: float = 0.0
    guarantee: Guarantee = Guarantee.SNAPSHOT
    guarantee_bound: float | None = None
    degraded: bool = False
    degradation_level: int = 0
    reasons: tuple[DegradationReason, ...] = ()
    data_watermark: datetime | None = None
    parts: tuple[AnswerPart, ...] = ()
    missing_intervals: tuple[Interval, ...] = ()
    sealed_intervals: tuple[Interval, ...] = ()
    effective_range: Interval | None = None
    bounds: tuple[ErrorBound, ...] = ()
    ladder: tuple[LadderStep, ...] = ()
    limiting_factor: str = ""
    queue_duration: float = 0.0
    pool: str = ""
    predicted: Cost | None = None
    actual: Cost | None = None
    cost_class: CostClass | None = None
    answer_version: str = ""
    refresh_expected: datetime | None = None
    retry_after: float | None = None
    job: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """An immutable result: ``encoded`` is a serialized proto ``Table``, never decoded again on the way out."""

    columns: tuple[Column, ...]
    row_count: int
    format: ResultFormat
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a stream.

    ``encoded`` is a serialized proto ``RowBatch`` without its ``first_row``: batches are made in parallel, and the
    position is appended when they are put in order (protobuf allows fields to be concatenated).
    """

    first_row: int
    row_count: int
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A table and what it is worth."""

    table: Table
    status: AnswerStatus
