"""Errors of the domain as ``google.rpc.Status`` and gRPC trailers.

Every status has exactly one ErrorInfo. Its size is bounded, because a client answers trailers beyond its limit (16 KiB
of headers by default) with RESOURCE_EXHAUSTED in place of the error: what does not fit is cut, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from broker.domain.errors import BrokerError, ErrorReason, Violation

DOMAIN = "querybroker.v1"
MAX_STATUS = 4_600
"""Bytes of a serialized status; its trailer is a third longer, and all trailers stay below 8 KiB."""
MIN_DELAY = 0.001
"""Seconds. A pushback of 0 ms makes the library of grpcio 1.85 wait until the deadline instead of retrying at once."""
MAX_MESSAGE = 400
MAX_TEXT = 256
MAX_METADATA = 16
MOST_KNOWN = 256
"""Errors whose encoding is remembered at once."""
INTERNAL_TEXT = "The broker failed. This is a bug: please report it with the request id."


class Retry(Enum):
    """What a caller may do next."""

    NO = "no"
    """Nothing: the same call fails again."""
    HINTED = "after the hint, not by the library"
    """Try later, but never by a client library's own retries, which would not wait long enough."""
    BACKOFF = "after the hint"
    """Try again after the delay."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Status code of a reason, whether a retry helps, and the delay in seconds when the error names none."""

    code: grpc.StatusCode
    retry: Retry = Retry.NO
    delay: float | None = None


_C = grpc.StatusCode
RULES: Mapping[ErrorReason, Rule] = {
    ErrorReason.INVALID_REQUEST: Rule(_C.INVALID_ARGUMENT),
    ErrorReason.REQUEST_ID_REUSED: Rule(_C.INVALID_ARGUMENT),
    ErrorReason.UNAUTHENTICATED: Rule(_C.UNAUTHENTICATED),
    ErrorReason.PERMISSION_DENIED: Rule(_C.PERMISSION_DENIED),
    ErrorReason.TENANT_QUOTA: Rule(_C.RESOURCE_EXHAUSTED, Retry.HINTED),
    ErrorReason.OVERLOADED: Rule(_C.UNAVAILABLE, Retry.BACKOFF, 1.0),
    ErrorReason.QUEUE_TIMEOUT: Rule(_C.UNAVAILABLE, Retry.BACKOFF, 1.0),
    ErrorReason.DRAINING: Rule(_C.UNAVAILABLE, Retry.BACKOFF, 0.1),
    ErrorReason.DEADLINE_TOO_SHORT: Rule(_C.DEADLINE_EXCEEDED, Retry.HINTED),
    ErrorReason.DEADLINE_EXCEEDED: Rule(_C.DEADLINE_EXCEEDED),
    ErrorReason.STORE_UNAVAILABLE: Rule(_C.UNAVAILABLE, Retry.BACKOFF, 1.0),
    ErrorReason.STORE_REJECTED: Rule(_C.FAILED_PRECONDITION),
    ErrorReason.WORKER_LOST: Rule(_C.UNAVAILABLE, Retry.BACKOFF, 0.2),
    ErrorReason.RESULT_TOO_LARGE: Rule(_C.FAILED_PRECONDITION),
    ErrorReason.USE_SUBMIT_JOB: Rule(_C.FAILED_PRECONDITION),
    ErrorReason.POLICY_UNSATISFIABLE: Rule(_C.FAILED_PRECONDITION),
    ErrorReason.SQL_DISABLED: Rule(_C.FAILED_PRECONDITION),
    ErrorReason.DATASET_NOT_FOUND: Rule(_C.NOT_FOUND),
    ErrorReason.JOB_NOT_FOUND: Rule(_C.NOT_FOUND),
    ErrorReason.JOB_STATE: Rule(_C.FAILED_PRECONDITION),
    ErrorReason.RESULT_EXPIRED: Rule(_C.NOT_FOUND),
    ErrorReason.ATTEMPTS_EXHAUSTED: Rule(_C.ABORTED),
    ErrorReason.WORKER_CRASH_LOOP: Rule(_C.ABORTED),
    ErrorReason.START_BY_PASSED: Rule(_C.DEADLINE_EXCEEDED),
    ErrorReason.ATTEMPT_TIMEOUT: Rule(_C.DEADLINE_EXCEEDED),
    ErrorReason.CANCELLED: Rule(_C.CANCELLED),
    ErrorReason.ROLLUP_NOT_FOUND: Rule(_C.NOT_FOUND),
    ErrorReason.ROLLUP_STATE: Rule(_C.FAILED_PRECONDITION),
    ErrorReason.NOT_OFFERED: Rule(_C.UNIMPLEMENTED),
    ErrorReason.INTERNAL: Rule(_C.INTERNAL),
}
_RESOURCE_TYPES = {
    ErrorReason.DATASET_NOT_FOUND: "querybroker.v1.Dataset",
    ErrorReason.JOB_NOT_FOUND: "querybroker.v1.Job",
    ErrorReason.RESULT_EXPIRED: "querybroker.v1.JobResult",
    ErrorReason.ROLLUP_NOT_FOUND: "querybroker.v1.Rollup",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error on its way out: what ``ServicerContext.abort`` takes."""

    reason: ErrorReason
    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Statuses:
    """Turns errors into statuses. ``random`` gives numbers in [0, 1) that spread retries over time."""

    random: Callable[[], float]
    _known: dict[int, tuple[BrokerError, str, bytes]] = field(default_factory=dict, repr=False, compare=False)

    def status(self, error: BrokerError, request_id: str) -> Status:
        """The status of an error, as it stands in an answer's panel or in a trailer."""
        return self._status(error, request_id, self._delay(error))

    def refusal(self, error: BrokerError, request_id: str, remaining: float | None = None) -> Refusal:
        """The status as trailers, with the pushback that client libraries understand.

        ``remaining`` are the seconds that the caller still waits, None for ever. A library that is told to come back
        later than that waits for its deadline and then reports that alone, so it is told not to retry.
        """
        delay = self._delay(error)
        status = self._status(error, request_id, delay)
        return self._refusal(error, status.message, status.SerializeToString(), delay, remaining)

    def again(self, error: BrokerError, request_id: str, remaining: float | None = None) -> Refusal:
        """The same for an error that is told to many callers: what is the same for all of them is encoded once.

        A message of Protocol Buffers may be written in pieces, one after the other; a caller's own come last.
        """
        known = self._known.get(id(error))  # it keeps the error, so that nothing else has its id
        if known is None:
            common = self._status(error, "", None)
            known = error, common.message, common.SerializeToString()
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[id(error)] = known
        delay, own = self._delay(error), Status()
        for detail in _own(request_id, delay):
            own.details.add().Pack(detail)
        return self._refusal(error, known[1], known[2] + own.SerializeToString(), delay, remaining)

    @staticmethod
    def _refusal(
        error: BrokerError, message: str, status: bytes, delay: float | None, remaining: float | None
    ) -> Refusal:
        rule = RULES[error.reason]
        trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status)]
        if rule.retry is Retry.HINTED:
            trailers.append(("grpc-retry-pushback-ms", "-1"))
        elif rule.retry is Retry.BACKOFF and delay is not None:
            late = remaining is not None and delay >= remaining
            trailers.append(("grpc-retry-pushback-ms", "-1" if late else str(round(delay * 1000))))
        return Refusal(error.reason, rule.code, message, tuple(trailers))

    def _delay(self, error: BrokerError) -> float | None:
        """The hint, 20 % up or down, so that callers refused together do not come back together."""
        rule = RULES[error.reason]
        delay = error.retry_after if error.retry_after is not None else rule.delay
        if delay is None or rule.retry is Retry.NO:
            return None
        return max(MIN_DELAY, delay * (0.8 + 0.4 * self.random()))

    def _status(self, error: BrokerError, request_id: str, delay: float | None) -> Status:
        internal = error.reason is ErrorReason.INTERNAL
        message = INTERNAL_TEXT if internal else clip(error.message, MAX_MESSAGE)
        status = Status(code=RULES[error.reason].code.value[0], message=message)
        metadata = {} if internal else _bounded(error.metadata)
        info = details.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=metadata)
        others = self._others(error, request_id, message, delay)
        if error.violations:
            spent = status.ByteSize() + info.ByteSize() + sum(m.ByteSize() + 64 for m in others) + 256
            request = bad_request(error.violations, MAX_STATUS - spent)
            others.insert(0, request)
            shown = len(request.field_violations)
            if shown < len(error.violations):
                info.metadata["violation_count"] = str(len(error.violations))
                info.metadata["violations_shown"] = str(shown)
        for detail in (info, *others):
            status.details.add().Pack(detail)
        return status

    def _others(
        self, error: BrokerError, request_id: str, message: str, delay: float | None
    ) -> list[Message]:
        found = _own(request_id, delay)
        if error.reason is ErrorReason.TENANT_QUOTA:
            found.append(details.QuotaFailure(violations=[_quota(error, message)]))
        if kind := _RESOURCE_TYPES.get(error.reason):
            name = clip(error.resource, MAX_TEXT)
            found.append(details.ResourceInfo(resource_type=kind, resource_name=name, description=message))
        if RULES[error.reason].code is _C.FAILED_PRECONDITION:
            failed = details.PreconditionFailure.Violation(
                type=error.reason.value, subject=clip(error.resource, MAX_TEXT), description=message
            )
            found.append(details.PreconditionFailure(violations=[failed]))
        return found


def _own(request_id: str, delay: float | None) -> list[Message]:
    """What is told to one caller alone."""
    found: list[Message] = []
    if delay is not None:
        nanos = round(delay * 1e9)
        found.append(details.RetryInfo(retry_delay=Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)))
    if request_id:
        found.append(details.RequestInfo(request_id=clip(request_id, MAX_TEXT)))
    return found


def _quota(error: BrokerError, message: str) -> details.QuotaFailure.Violation:
    known = error.metadata
    return details.QuotaFailure.Violation(
        subject=clip(f"tenant:{known.get('tenant', '')}", MAX_TEXT),
        description=message,
        quota_metric=clip(known.get("quota_metric", ""), MAX_TEXT),
        quota_id=clip(known.get("quota_id", ""), MAX_TEXT),
        quota_value=_whole(known.get("quota_value", "")),
    )


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0


def bad_request(violations: tuple[Violation, ...], budget: int) -> details.BadRequest:
    """As many violations, in order, as fit into ``budget`` bytes; at least one."""
    request = details.BadRequest()
    for violation in violations:
        field = details.BadRequest.FieldViolation(
            field=clip(violation.field, MAX_TEXT),
            description=clip(violation.description, MAX_TEXT),
            reason=violation.code,
        )
        budget -= field.ByteSize() + 4
        if budget < 0 and request.field_violations:
            break
        request.field_violations.append(field)
    return request


def _bounded(metadata: Mapping[str, str]) -> dict[str, str]:
    kept = sorted(metadata.items())[:MAX_METADATA]
    return {clip(key, 64): clip(value, MAX_TEXT if i < 8 else 64) for i, (key, value) in enumerate(kept)}


def clip(text: str, size: int) -> str:
    """The text, cut to ``size`` bytes of UTF-8 with an ellipsis."""
    encoded = text.encode()
    if len(encoded) <= size:
        return text
    return encoded[: size - 3].decode(errors="ignore") + "…"
