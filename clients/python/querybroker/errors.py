"""Errors of calls, of panels and of jobs, read from ``google.rpc.Status``. See docs/errors.md of the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status

if TYPE_CHECKING:
    import grpc

DOMAIN = "querybroker.v1"
_DETAILS = "grpc-status-details-bin"
_PUSHBACK = "grpc-retry-pushback-ms"
_RETRYABLE = "UNAVAILABLE"
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request: the field's path, what would be right, and a short code."""

    field: str
    description: str
    code: str


class QueryBrokerError(Exception):
    """A call, a panel or a job that failed.

    ``code`` is the name of the status code, such as ``UNAVAILABLE``. ``reason`` is one of the server's closed list, and
    empty when the error did not come from the server (no connection, the caller's own deadline). ``retry_after`` is in
    seconds, None when no retry was advised. ``forbidden`` is True when the server said not to retry by itself.
    ``metadata`` repeats the dynamic parts of the message.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
        retry_after: float | None = None,
        request_id: str = "",
        forbidden: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = violations
        self.retry_after = retry_after
        self.request_id = request_id
        self.forbidden = forbidden

    def __str__(self) -> str:
        named = f" [request {self.request_id}]" if self.request_id else ""
        listed = "".join(f"\n  {v.field}: {v.description}" for v in self.violations)
        count = self.metadata.get("violation_count", "")  # given when not all of them fitted into the reply
        if count.isdigit():
            listed += f"\n  and {int(count) - len(self.violations)} more"
        # With violations the message only strings them together.
        what = "the request has problems" if self.violations else self.message
        return f"{self.reason or self.code}: {what}{named}{listed}"

    @property
    def retryable(self) -> bool:
        """Whether a program may make the same call again by itself, after ``retry_after`` and within its deadline."""
        return self.code == _RETRYABLE and not self.forbidden

    @classmethod
    def from_status(cls, status: Status) -> QueryBrokerError:
        """The error of a panel or a job."""
        info = _detail(status, error_details_pb2.ErrorInfo)
        retry = _detail(status, error_details_pb2.RetryInfo)
        request = _detail(status, error_details_pb2.RequestInfo)
        bad = _detail(status, error_details_pb2.BadRequest)
        known = info is not None and info.domain == DOMAIN
        number = status.code
        return cls(
            code_pb2.Code.Name(number) if number in code_pb2.Code.values() else str(number),
            status.message,
            reason=info.reason if info is not None and known else "",
            metadata=dict(info.metadata) if info is not None else None,
            violations=tuple(
                Violation(v.field, v.description, v.reason) for v in (bad.field_violations if bad else ())
            ),
            retry_after=retry.retry_delay.ToTimedelta().total_seconds() if retry is not None else None,
            request_id=request.request_id if request is not None else "",
        )

    @classmethod
    def from_rpc_error(cls, error: grpc.RpcError) -> QueryBrokerError:
        """The error of a call, synchronous or not."""
        # Pairs in both clients, though the types of the synchronous one name only their attributes.
        trailers = dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))
        made = cls._from_details(trailers.get(_DETAILS)) or cls(error.code().name, error.details() or "")
        pushback = trailers.get(_PUSHBACK)
        if pushback is not None:
            wait = str(pushback)
            # Negative, or not to be read: do not retry.
            made.forbidden = not (wait.isascii() and wait.isdigit())
            if made.retry_after is None and not made.forbidden:
                made.retry_after = int(wait) / 1000
        return made

    @classmethod
    def _from_details(cls, details: str | bytes | None) -> QueryBrokerError | None:
        if not isinstance(details, bytes):
            return None
        try:
            return cls.from_status(Status.FromString(details))
        except DecodeError:
            return None


class ThrottledError(QueryBrokerError):
    """The client did not send the call, because the broker has refused most calls of late (see ``Throttled``)."""

    def __init__(self, target: str, *, sent: int, refused: int, window: float, share: float) -> None:
        text = (
            f"not sent: {refused} of {sent} calls to {target} in {window:.0f} s were refused or held back, so "
            f"this client rejects {share:.0%} of its calls by itself. Ask less often, or try again in a while."
        )
        metadata = {"target": target, "sent": str(sent), "refused": str(refused), "share": f"{share:.2f}"}
        super().__init__(_RETRYABLE, text, metadata=metadata, retry_after=1.0)


class ChecksumError(QueryBrokerError):
    """The bytes that were read are not the ones that were written."""

    def __init__(self, name: str, expected: bytes, found: bytes) -> None:
        text = f"{name} has SHA-256 {found.hex()} instead of {expected.hex()}; read it again"
        super().__init__("DATA_LOSS", text)


def _detail(status: Status, kind: type[M]) -> M | None:
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None
