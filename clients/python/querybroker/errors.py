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
    seconds, None when no retry was advised. ``metadata`` repeats the dynamic parts of the message.
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
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = violations
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        named = f" [request {self.request_id}]" if self.request_id else ""
        listed = "".join(f"\n  {v.field}: {v.description}" for v in self.violations)
        return f"{self.reason or self.code}: {self.message}{named}{listed}"

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.code == _RETRYABLE

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
        trailers = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
        for key, value in trailers:
            if key == _DETAILS and isinstance(value, bytes):
                try:
                    return cls.from_status(Status.FromString(value))
                except DecodeError:
                    break
        return cls(error.code().name, error.details() or "")


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
