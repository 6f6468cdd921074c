"""What becomes of a job when an attempt ends without success: again later, failed, or into the dead-letter queue.

Pure: the worker that saw the error and the worker that reaps a lost one decide by the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobFailure, JobState

CRASH_LIMIT = 3
"""An attempt that takes its process with it may do so this often, whatever the attempts allowed."""

FIRST_LOSS_PAUSE = 0.5
"""Longest pause after a job's first crash, in seconds: somebody waits for it, and the lease has been waited for."""

BACKOFF_BASE = 2.0
BACKOFF_CAP = 300.0

RETRYABLE = frozenset(
    {
        ErrorReason.OVERLOADED,
        ErrorReason.QUEUE_TIMEOUT,
        ErrorReason.DRAINING,
        ErrorReason.STORE_UNAVAILABLE,
        ErrorReason.WORKER_LOST,
        ErrorReason.DEADLINE_EXCEEDED,
        ErrorReason.ATTEMPT_TIMEOUT,
        ErrorReason.INTERNAL,  # an unexpected error may pass; the limit of attempts bounds the cost of trying
    }
)
RETRYABLE_SQLSTATES = frozenset({"40001", "40P01"})  # serialization failure, deadlock


class AttemptOutcome(StrEnum):
    """How an attempt ended, in the history and in metrics."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a failed attempt leads. ``delay`` in seconds counts when the state is QUEUED.

    A job that was asked to stop becomes CANCELLED instead of QUEUED: the store decides that, since it knows last.
    """

    state: JobState
    failure: JobFailure
    outcome: AttemptOutcome = AttemptOutcome.FAILED
    delay: float = 0.0
    dead_lettered: bool = False
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an attempt ended: what to tell, whether another attempt may help, and after how many seconds at least.

    ``crashed`` when the attempt's process died with it; such attempts count against the crash limit.
    """

    failure: JobFailure
    retryable: bool
    retry_after: float | None = None
    crashed: bool = False


def fault_of(error: BrokerError) -> Fault:
    """The fault that an error stands for."""
    failure = JobFailure(error.reason.value, error.message, dict(error.metadata))
    retryable = error.reason in RETRYABLE or error.metadata.get("sqlstate", "") in RETRYABLE_SQLSTATES
    return Fault(failure, retryable, error.retry_after)


def backoff(attempt: int, jitter: float) -> float:
    """Seconds until the next attempt: full jitter (``jitter`` in [0, 1)) over a doubling span, capped at 5 minutes.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015.
    """
    return jitter * float(min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(attempt, 16)))


def ending(job: Job, fault: Fault, jitter: float) -> Ending:
    """What becomes of a running job after a fault."""
    failure, crashed = fault.failure, fault.crashed
    outcome = AttemptOutcome.LOST if crashed else AttemptOutcome.FAILED
    if crashed and job.crash_count + 1 >= CRASH_LIMIT:
        text = f"The job ended the process of {job.crash_count + 1} attempts: {failure.message}"
        looped = _because(ErrorReason.WORKER_CRASH_LOOP, text, failure, crash_count=job.crash_count + 1)
        return Ending(JobState.FAILED, looped, outcome, dead_lettered=True, crashed=True)
    if not fault.retryable:
        return Ending(JobState.FAILED, failure, outcome, crashed=crashed)
    if job.attempt >= job.max_attempts:
        if failure.reason != ErrorReason.ATTEMPT_TIMEOUT:
            text = f"All {job.attempt} attempts failed, the last one because: {failure.message}"
            failure = _because(ErrorReason.ATTEMPTS_EXHAUSTED, text, failure, attempts=job.attempt)
        return Ending(JobState.FAILED, failure, outcome, dead_lettered=True, crashed=crashed)
    first_loss = crashed and job.crash_count == 0  # most likely the machine's doing, not the job's
    pause = jitter * FIRST_LOSS_PAUSE if first_loss else backoff(job.attempt, jitter)
    delay = max(pause, fault.retry_after or 0.0)
    return Ending(JobState.QUEUED, failure, outcome, delay, crashed=crashed)


def _because(reason: ErrorReason, text: str, cause: JobFailure, **counts: int) -> JobFailure:
    metadata: Mapping[str, str] = {
        **cause.metadata,
        "cause": cause.reason,
        **{name: str(value) for name, value in counts.items()},
    }
    return JobFailure(reason.value, text, metadata)


def lost_worker(job: Job) -> Fault:
    """The fault of an attempt whose worker process stopped renewing its lease."""
    text = f"The worker process of attempt {job.attempt} was lost."
    return Fault(JobFailure(ErrorReason.WORKER_LOST.value, text), retryable=True, crashed=True)


def overdue(job: Job) -> Fault:
    """The fault of an attempt that ran longer than it may."""
    seconds = f"{job.attempt_timeout:g}"
    text = f"Attempt {job.attempt} was stopped after {seconds} s. Narrow the query, or raise the limit of the server."
    metadata = {"attempt_timeout_seconds": seconds}
    return Fault(JobFailure(ErrorReason.ATTEMPT_TIMEOUT.value, text, metadata), retryable=True)


def start_by_passed(job: Job) -> JobFailure:
    """Why a job ends that no worker could begin in time."""
    when = "" if job.start_by_time is None else f" {job.start_by_time.isoformat()}"
    text = f"No attempt had begun by{when}. Submit it again with more time, or add workers."
    return JobFailure(ErrorReason.START_BY_PASSED.value, text)


def cancelled(by: str = "") -> JobFailure:
    """What a cancelled job tells."""
    text = f"Cancelled by {by}." if by else "Cancelled on request."
    return JobFailure(ErrorReason.CANCELLED.value, text, {"principal": by} if by else {})
