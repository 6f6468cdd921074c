"""Errors as values of the domain: a closed list of reasons, each raised once and translated once at the edge.

A :class:`BrokerError` carries what the caller needs in order to act: the reason, a sentence that says what to do next,
the dynamic parts of that sentence as metadata, and a delay after which a retry makes sense. The transport turns it into
a ``google.rpc.Status``; nothing below the transport knows a status code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class ErrorReason(StrEnum):
    """Why a request failed; the same list as the proto enum ``ErrorReason`` (a test compares them)."""

    INVALID_REQUEST = "INVALID_REQUEST"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    TENANT_QUOTA = "TENANT_QUOTA"
    OVERLOADED = "OVERLOADED"
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    DRAINING = "DRAINING"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    STORE_REJECTED = "STORE_REJECTED"
    WORKER_LOST = "WORKER_LOST"
    RESULT_TOO_LARGE = "RESULT_TOO_LARGE"
    USE_SUBMIT_JOB = "USE_SUBMIT_JOB"
    POLICY_UNSATISFIABLE = "POLICY_UNSATISFIABLE"
    SQL_DISABLED = "SQL_DISABLED"
    DATASET_NOT_FOUND = "DATASET_NOT_FOUND"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    JOB_STATE = "JOB_STATE"
    RESULT_EXPIRED = "RESULT_EXPIRED"
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    WORKER_CRASH_LOOP = "WORKER_CRASH_LOOP"
    START_BY_PASSED = "START_BY_PASSED"
    ATTEMPT_TIMEOUT = "ATTEMPT_TIMEOUT"
    CANCELLED = "CANCELLED"
    ROLLUP_NOT_FOUND = "ROLLUP_NOT_FOUND"
    ROLLUP_STATE = "ROLLUP_STATE"
    NOT_OFFERED = "NOT_OFFERED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request.

    ``field`` is a path in the request such as ``panels[2].query.order[0].member``; ``description`` says what is wrong
    and what would be right; ``code`` is a stable short name in UPPER_SNAKE.
    """

    field: str
    description: str
    code: str = "INVALID"

    def under(self, prefix: str) -> Violation:
        """The same violation seen from a message that holds this one at ``prefix``."""
        field = f"{prefix}.{self.field}" if self.field else prefix
        return Violation(field, self.description, self.code)


class BrokerError(Exception):
    """A failure that the caller is told about.

    ``retry_after`` is in seconds; None means that a retry will not help. ``metadata`` repeats every dynamic part of the
    message. ``resource`` names what was not found.
    """

    def __init__(
        self,
        reason: ErrorReason,
        message: str,
        *,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        resource: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = tuple(violations)
        self.resource = resource

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process boundaries; exceptions with keyword-only arguments do not pickle by themselves."""
        return _rebuild, (
            self.reason, self.message, self.retry_after, dict(self.metadata), self.violations, self.resource,
        )  # fmt: skip


def _rebuild(
    reason: ErrorReason,
    message: str,
    retry_after: float | None,
    metadata: Mapping[str, str],
    violations: Sequence[Violation],
    resource: str,
) -> BrokerError:
    return BrokerError(
        reason, message, retry_after=retry_after, metadata=metadata, violations=violations, resource=resource
    )


def invalid(violations: Sequence[Violation]) -> BrokerError:
    """The error for a malformed request, naming every violation at once."""
    count = len(violations)
    shown = "; ".join(f"{v.field}: {v.description}" for v in violations[:3])
    more = f"; and {count - 3} more" if count > 3 else ""
    return BrokerError(ErrorReason.INVALID_REQUEST, f"{shown}{more}", violations=violations)


def no_such_job(tenant: str, job_id: str) -> BrokerError:
    """The error for a job that does not exist, or not for the caller, which is not told apart."""
    name = f"tenants/{tenant}/jobs/{job_id}"
    text = f"There is no job {name!r}, or you may not see it. ListJobs names yours."
    return BrokerError(ErrorReason.JOB_NOT_FOUND, text, metadata={"job": name}, resource=name)
