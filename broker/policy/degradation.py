"""Which errors lead down the ladder, what they are called in an answer's status, and how far down a rung is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from broker.domain.answer import AnswerKind, AnswerStatus, DegradationReason, Exactness
from broker.domain.errors import BrokerError, ErrorReason

DEGRADABLE = frozenset(
    {
        ErrorReason.OVERLOADED,
        ErrorReason.QUEUE_TIMEOUT,
        ErrorReason.DEADLINE_TOO_SHORT,
        ErrorReason.DEADLINE_EXCEEDED,
        ErrorReason.STORE_UNAVAILABLE,
        ErrorReason.WORKER_LOST,
        ErrorReason.TENANT_QUOTA,
        ErrorReason.DRAINING,
    }
)
"""Errors of which the question is innocent: another source may answer it."""
RATE = "tenant_rate"
"""The factor of a quota that bounds calls, whatever they cost: an answer from another source is a call too."""

_REASONS: Mapping[ErrorReason, DegradationReason] = MappingProxyType(
    {
        ErrorReason.OVERLOADED: DegradationReason.OVERLOAD_POOL_FULL,
        ErrorReason.QUEUE_TIMEOUT: DegradationReason.OVERLOAD_POOL_FULL,
        ErrorReason.DEADLINE_TOO_SHORT: DegradationReason.PREDICTED_OVER_DEADLINE,
        ErrorReason.DEADLINE_EXCEEDED: DegradationReason.DEADLINE_EXPIRED_UPSTREAM,
        ErrorReason.STORE_UNAVAILABLE: DegradationReason.UPSTREAM_UNAVAILABLE,
        ErrorReason.WORKER_LOST: DegradationReason.WORKER_LOST,
        ErrorReason.TENANT_QUOTA: DegradationReason.TENANT_QUOTA,
        ErrorReason.DRAINING: DegradationReason.DRAINING,
        ErrorReason.USE_SUBMIT_JOB: DegradationReason.COST_CEILING,
    }
)
_FACTORS: Mapping[str, DegradationReason] = MappingProxyType(
    {
        "hopeless": DegradationReason.PREDICTED_OVER_DEADLINE,
        "loop_lag": DegradationReason.BROKER_PRESSURE,
        "memory": DegradationReason.BROKER_PRESSURE,
        "draining": DegradationReason.DRAINING,
        "deadline": DegradationReason.PREDICTED_OVER_DEADLINE,
    }
)
_TOO_MANY_CONNECTIONS = "53300"
_LEVELS: Mapping[AnswerKind, int] = MappingProxyType(
    {AnswerKind.CACHE_STALE: 2, AnswerKind.ROLLUP_STALE: 3, AnswerKind.ESTIMATE: 4}
)
INCOMPLETE = 5


def degradable(error: BrokerError) -> bool:
    """Whether another source may answer in place of this error."""
    return error.reason in DEGRADABLE and error.metadata.get("limiting_factor") != RATE


def reason_of(error: BrokerError) -> DegradationReason:
    """The closed reason for an error that led down; what has no name of its own is an error of the database."""
    known = error.metadata
    if error.reason is ErrorReason.STORE_UNAVAILABLE:
        if known.get("sqlstate") == _TOO_MANY_CONNECTIONS:
            return DegradationReason.OVERLOAD_UPSTREAM_LIMIT
        if known.get("breaker", "closed") != "closed":
            return DegradationReason.CIRCUIT_OPEN
        return DegradationReason.UPSTREAM_UNAVAILABLE
    factor = known.get("limiting_factor", "")
    if error.reason is ErrorReason.OVERLOADED and _squeezed(known):
        return DegradationReason.OVERLOAD_UPSTREAM_LIMIT
    return _FACTORS.get(factor) or _REASONS.get(error.reason, DegradationReason.UPSTREAM_ERROR)


def level_of(status: AnswerStatus) -> int:
    """How far down an answer is: 1 and 2 stale, 3 a stale or coarser rollup, 4 an estimate, 5 incomplete."""
    if status.exactness is Exactness.PARTIAL or status.missing_intervals:
        return INCOMPLETE
    return status.degradation_level or _LEVELS.get(status.kind, 0)


def _squeezed(known: Mapping[str, str]) -> bool:
    """Whether it was the database that could do no more: all seats that it has now are in use, and it is slow."""
    used, limit = known.get("backend_seats_used"), known.get("backend_limit")
    progress = known.get("backend_progress")
    if used is None or limit is None or progress is None:
        return False
    return int(used) >= int(limit) and float(progress) < SLOW


SLOW = 0.5
"""Speed of queries relative to an idle database below which it, and not the pool, is taken to be the bottleneck."""
