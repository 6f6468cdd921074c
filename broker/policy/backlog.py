"""Whether a queue of jobs takes one more, and when that one may begin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.state import Backlog

TYPICAL_SECONDS = 30.0
"""Taken for a job's time while none has succeeded yet."""
HINT_SECONDS = (1.0, 600.0)
"""Shortest and longest pause that a refusal asks for."""


@dataclass(frozen=True, slots=True)
class BacklogLimits:
    """Most jobs that wait, of one tenant and in all, and the longest that a tenant's oldest one waits, in seconds."""

    tenant: int = 1_000
    queue: int = 10_000
    age: float = 3600.0


def wait(backlog: Backlog) -> float:
    """Seconds until a job that is submitted now may begin; infinite while there is no worker.

    It begins at once where a slot is free beyond those that the jobs before it take. Otherwise as many jobs have to end
    as are before it and have no slot yet; with all slots taken, one ends every (mean time / slots) seconds.
    """
    if backlog.slots <= 0:
        return math.inf
    ahead = backlog.before - max(0, backlog.slots - backlog.running)
    if ahead < 0:
        return 0.0
    return (ahead + 1) * (backlog.seconds or TYPICAL_SECONDS) / backlog.slots


def start_estimate(backlog: Backlog) -> timedelta | None:
    """The same as a time to add; None when nothing is known."""
    seconds = wait(backlog)
    return timedelta(seconds=seconds) if math.isfinite(seconds) else None


def refusal(backlog: Backlog, limits: BacklogLimits) -> BrokerError | None:
    """Why the queue takes no more, None where it does.

    A tenant is refused for its own jobs (TENANT_QUOTA), everybody for a queue that is full (OVERLOADED). The hint is
    the time in which a tenth of what waits ought to have begun.
    """
    if backlog.tenant >= limits.tenant or backlog.age > limits.age:
        text = (
            f"{_count(backlog.tenant, limits.tenant)} jobs of your tenant wait, the oldest for {backlog.age:.0f} s. "
            "Wait for some to end, or cancel some, then retry with the same request_id."
        )
        metadata = {"queued": str(backlog.tenant), "oldest_seconds": f"{backlog.age:.0f}"}
        return BrokerError(
            ErrorReason.TENANT_QUOTA, text, retry_after=_hint(backlog.tenant, backlog), metadata=metadata
        )
    if backlog.queued >= limits.queue:
        text = f"{_count(backlog.queued, limits.queue)} jobs wait for a worker. Retry later with the same request_id."
        metadata = {"queued": str(backlog.queued)}
        return BrokerError(
            ErrorReason.OVERLOADED, text, retry_after=_hint(backlog.queued, backlog), metadata=metadata
        )
    return None


def _hint(waiting: int, backlog: Backlog) -> float:
    shortest, longest = HINT_SECONDS
    if backlog.slots <= 0:
        return longest
    begun = max(1, waiting // 10) * (backlog.seconds or TYPICAL_SECONDS) / backlog.slots
    return min(longest, max(shortest, begun))


def _count(counted: int, bound: int) -> str:
    """Counting stops at the bound."""
    return f"{counted} or more" if counted >= bound else str(counted)
