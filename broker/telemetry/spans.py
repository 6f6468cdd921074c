"""Spans as context managers that end with the right status, in coroutines and in async generators alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, StatusCode, set_span_in_context

from broker.domain.errors import BrokerError
from broker.telemetry import names as n

SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Status codes that are the server's fault; the RPC conventions mark only these as errors on a server span."""


UNSAMPLED = otel.create_key("querybroker-unsampled")
"""Where a context has what stands for all spans below its span, which is not sampled."""


def error_type(error: BaseException) -> str:
    """A short name of an error: the broker's reason, ``cancelled``, or the class."""
    if isinstance(error, BrokerError):
        return error.reason.value
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    return type(error).__qualname__


def record_error(span: Span, error: BaseException) -> None:
    """Marks the span by how it ended.

    A refusal with a reason is no stack trace, and a cancelled call is no error: nobody is to look for a fault there.
    """
    if not span.is_recording():
        return
    kind = error_type(error)
    if kind == "cancelled":
        span.set_attribute(n.CANCELLED, True)
        return
    span.set_attribute(n.ERROR_TYPE, kind)
    if isinstance(error, BrokerError):
        span.set_status(StatusCode.ERROR, kind)
        return
    span.record_exception(error)
    span.set_status(StatusCode.ERROR, kind)


class SpanScope:
    """Makes a span current, and ends it.

    The context before is restored by setting it again and only where this span is still current, because an async
    generator may be closed in another task than the one that opened the span, where a token cannot be reset.
    """

    __slots__ = ("_before", "_current", "span")

    def __init__(self, span: Span, parent: Context | None) -> None:
        self.span = span
        self._before = otel.get_current()
        self._current = set_span_in_context(span, self._before if parent is None else parent)
        if unsampled(span):
            self._current = Context({**self._current, UNSAMPLED: UnsampledScope(span)})

    def __enter__(self) -> Span:
        otel.attach(self._current)
        return self.span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.close(error)
        return False

    def close(self, error: BaseException | None) -> None:
        """Ends the span, with the error when there is one."""
        if error is not None:
            record_error(self.span, error)
        self.span.end()
        if otel.get_current() is self._current:
            otel.attach(self._before)


def unsampled(span: Span) -> bool:
    """Whether a span belongs to a trace that nobody keeps."""
    if span is INVALID_SPAN or span.is_recording():
        return False
    context = span.get_span_context()
    return context.is_valid and not context.trace_flags.sampled


class UnsampledScope(SpanScope):
    """What stands for a span below one that is not sampled: that one, which goes on.

    It costs next to nothing, and the same one may be entered many times.
    """

    __slots__ = ()

    def __init__(self, current: Span) -> None:
        self.span = current

    def __enter__(self) -> Span:
        return self.span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        return False

    def close(self, error: BaseException | None) -> None:
        """Nothing has begun."""


class StoreScope(SpanScope):
    """The span of one statement; reports the statement's duration, SQLSTATE and kind of error when it ends."""

    __slots__ = ("_clock", "_finished", "_start")

    def __init__(
        self,
        span: Span,
        clock: Callable[[], float],
        finished: Callable[[float, str, str], None],
    ) -> None:
        super().__init__(span, None)
        self._clock, self._finished, self._start = clock, finished, clock()

    def close(self, error: BaseException | None) -> None:
        """Ends the span and reports the statement."""
        if error is not None and (sqlstate := _sqlstate(error)):
            self.span.set_attribute(n.DB_STATUS, sqlstate)
        super().close(error)
        self._report(error)

    def _report(self, error: BaseException | None) -> None:
        sqlstate = "" if error is None else _sqlstate(error)
        self._finished(self._clock() - self._start, sqlstate, "" if error is None else error_type(error))


class UnsampledStoreScope(StoreScope):
    """The same below a span that is not sampled: only the report is made."""

    __slots__ = ()

    def __init__(
        self, current: Span, clock: Callable[[], float], finished: Callable[[float, str, str], None]
    ) -> None:
        self.span = current
        self._clock, self._finished, self._start = clock, finished, clock()

    def __enter__(self) -> Span:
        return self.span

    def close(self, error: BaseException | None) -> None:
        """Reports the statement."""
        self._report(error)


def _sqlstate(error: BaseException) -> str:
    if isinstance(error, BrokerError):
        return error.metadata.get("sqlstate", "")
    return str(getattr(error, "sqlstate", None) or "")


class ServerCall:
    """A call being served. Say how it ended with :meth:`status` before the scope is left."""

    __slots__ = ("error_type", "span", "status_code")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.status_code = ""
        self.error_type = ""

    def status(self, code: str, error_type: str = "") -> None:
        """Sets the call's status code by name, such as ``UNAVAILABLE``, and the broker's reason."""
        self.status_code, self.error_type = code, error_type


class ServerScope:
    """The span of a call. Left without a status, a call counts as OK, CANCELLED or UNKNOWN by what left it."""

    __slots__ = ("_call", "_clock", "_finished", "_method", "_scope", "_start")

    def __init__(
        self,
        span: Span,
        parent: Context,
        clock: Callable[[], float],
        method: str,
        finished: Callable[[str, str, float, str], None],
    ) -> None:
        self._scope = SpanScope(span, parent)
        self._call = ServerCall(span)
        self._method, self._clock, self._finished, self._start = method, clock, finished, clock()

    def __enter__(self) -> ServerCall:
        self._scope.__enter__()
        return self._call

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        code = self._call.status_code or _code_of(error)
        reason = self._call.error_type or (code if code != "OK" else "")
        span = self._call.span
        if span.is_recording():
            span.set_attribute(n.RPC_STATUS, code)
            if reason:
                span.set_attribute(n.ERROR_TYPE, reason)
            if code in SERVER_FAULTS:
                span.set_status(StatusCode.ERROR, reason)
        self._scope.close(None)
        self._finished(self._method, code, self._clock() - self._start, reason)
        return False


def _code_of(error: BaseException | None) -> str:
    if error is None:
        return "OK"
    return "CANCELLED" if error_type(error) == "cancelled" else "UNKNOWN"
