"""One call as a servicer sees it, and how a servicer offers its methods."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from broker.domain.answer import AnswerKind, AnswerStatus
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.request import CallContext

RESPONSE_LIMIT = "querybroker-max-response-bytes"
"""Metadata in which a caller says how large a response it receives."""
M = TypeVar("M", bound=Message)
_KINDS = list(AnswerKind)


class Call:
    """One call: its context, and notes for its trailers and its line in the log.

    ``response_limit`` is the largest message in bytes that the caller receives; ``raw`` is the request as it came.
    """

    __slots__ = ("_age", "_kind", "_reason", "context", "raw", "response_limit")

    def __init__(self, context: CallContext, response_limit: int, raw: bytes = b"") -> None:
        self.context = context
        self.response_limit = response_limit
        self.raw = raw
        self._kind: AnswerKind | None = None
        self._reason = ""
        self._age = 0.0

    @property
    def request_id(self) -> str:
        """Names the call in logs and traces."""
        return self.context.request_id

    def require(self, grant: str) -> None:
        """Refuses callers without a grant.

        Raises:
            BrokerError: PERMISSION_DENIED.
        """
        if not self.context.principal.has(grant):
            text = f"The grant {grant!r} is needed and {self.context.principal.name!r} does not hold it."
            raise BrokerError(ErrorReason.PERMISSION_DENIED, text, metadata={"grant": grant})

    def answered(self, status: AnswerStatus) -> None:
        """Notes an answer; of several the worst kind, the first reason and the greatest age are told."""
        if self._kind is None or _KINDS.index(status.kind) > _KINDS.index(self._kind):
            self._kind = status.kind
        if status.degraded and status.reasons and not self._reason:
            self._reason = status.reasons[0].value
        self._age = max(self._age, status.staleness)

    def notes(self) -> dict[str, str]:
        """The answer in short: ``answer-kind``, ``data-age-ms`` and, when degraded, ``degraded-reason``."""
        return {} if self._kind is None else answer_notes(self._kind, self._age, self._reason)


def answer_notes(kind: AnswerKind, age: float, reason: str = "") -> dict[str, str]:
    """An answer in short: its kind, its age in milliseconds and why it is degraded, if it is."""
    notes = {"answer-kind": str(kind), "data-age-ms": str(round(age * 1000))}
    if reason:
        notes["degraded-reason"] = reason
    return notes


class Recalled(Protocol):
    """A response that is at hand, from the cache and fresh. ``answers`` counts those in it."""

    answers: int

    def encode(self, request_id: str, now: float) -> bytes:
        """The bytes of the response at a monotonic instant."""
        ...


Recall = Callable[[bytes, Principal, int, float], Recalled | None]
"""The response to a request that was answered before, from its bytes without its id, its caller, the bytes of what the
caller receives at most, and the monotonic instant.

None when the request has to be read. It takes microseconds, and no seat.
"""


@dataclass(frozen=True, slots=True)
class Unary(Generic[M]):
    """A method with one response; ``handle`` gives it encoded. ``while_draining`` is for operators.

    ``pool`` is where calls of the method usually ask for seats; without one they are always read. ``recall`` is asked
    before a request is read.
    """

    request: type[M]
    handle: Callable[[Call, M], Awaitable[bytes]]
    while_draining: bool = False
    pool: PoolName | None = None
    recall: Recall | None = None


@dataclass(frozen=True, slots=True)
class Streaming(Generic[M]):
    """A method with a stream of encoded responses.

    ``watch`` names a stream without an end of its own, such as ``job``: it is counted, and it ends when the server
    drains, so that the watcher goes on elsewhere. A stream of a ``pool`` holds a seat while its reader is slow.
    """

    request: type[M]
    handle: Callable[[Call, M], AsyncGenerator[bytes, None]]
    watch: str = ""
    while_draining: bool = False
    pool: PoolName | None = None


Endpoint = Unary[Any] | Streaming[Any]
"""A method of any request; :func:`unary` and :func:`streaming` check that request and handler fit together."""


def unary(
    request: type[M],
    handle: Callable[[Call, M], Awaitable[bytes]],
    *,
    while_draining: bool = False,
    pool: PoolName | None = None,
    recall: Recall | None = None,
) -> Endpoint:
    """A method with one response."""
    return Unary(request, handle, while_draining, pool, recall)


def streaming(
    request: type[M],
    handle: Callable[[Call, M], AsyncGenerator[bytes, None]],
    *,
    watch: str = "",
    while_draining: bool = False,
    pool: PoolName | None = None,
) -> Endpoint:
    """A method with a stream of responses."""
    return Streaming(request, handle, watch, while_draining, pool)


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the contract with a handler for each of its methods."""

    descriptor: ServiceDescriptor
    endpoints: Mapping[str, Endpoint]

    @property
    def name(self) -> str:
        """Full name, such as ``querybroker.v1.QueryService``."""
        return self.descriptor.full_name

    def check(self) -> None:
        """Compares the handlers with the contract; wrong wiring is found when the server is built.

        Raises:
            ValueError: A method without a handler, a handler without a method, or of another shape.
        """
        wanted = {m.name: (m.input_type.full_name, m.server_streaming) for m in self.descriptor.methods}
        offered = {
            name: (e.request.DESCRIPTOR.full_name, isinstance(e, Streaming))
            for name, e in self.endpoints.items()
        }
        if wanted != offered:
            raise ValueError(f"{self.name} is served as {offered}, the contract says {wanted}")
