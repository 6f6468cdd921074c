"""One line in the log for every call; calls that end unread, refused or recalled by the hundred, share one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from opentelemetry.trace import Span

from broker.domain.principal import Principal
from broker.telemetry import names as n

ACCESS_LOGGER = "querybroker.access"
TOGETHER = 1.0
"""Seconds of calls that are alike and share a line."""
NOTHING: Mapping[str, str] = MappingProxyType({})
_ATTRIBUTES = {"answer-kind": n.SOURCE, "degraded-reason": n.DEGRADED_REASON}
"""Attributes of a call's span, by the note that they repeat."""
_LOG = logging.getLogger(ACCESS_LOGGER)


def repeat(span: Span, notes: Mapping[str, str]) -> None:
    """Says on a call's span what the trailers and the log say of its answer."""
    if notes and span.is_recording():
        span.set_attributes({_ATTRIBUTES[key]: text for key, text in notes.items() if key in _ATTRIBUTES})


def log_call(
    method: str,
    code: str,
    seconds: float,
    request_id: str,
    principal: Principal | None,
    notes: Mapping[str, str],
    reason: str = "",
    *,
    calls: int = 1,
) -> None:
    """Writes the line; its parts are attributes of the record, so a formatter may write them as JSON."""
    if not _LOG.isEnabledFor(logging.INFO):
        return
    extra = {
        "rpc_method": method,
        "rpc_status": code,
        "request_id": request_id,
        "duration_ms": round(seconds * 1000, 3),
        "principal": principal.name if principal is not None else "",
        "tenant": principal.tenant if principal is not None else "",
        "reason": reason,
        "answer_source": notes.get("answer-kind", ""),
        "degraded_reason": notes.get("degraded-reason", ""),
        "calls": calls if calls > 1 else "",
    }
    told = {key: value for key, value in extra.items() if value != ""}
    # Without looking through the stack for who writes this, which takes longer than the rest of the record.
    _LOG.handle(
        _LOG.makeRecord(_LOG.name, logging.INFO, __file__, 0, "%s %s", (method, code), None, extra=told)
    )


_Key = tuple[str, str, str, tuple[str, str] | None]


@dataclass(slots=True)
class _Alike:
    """Calls since the last line, and the latest of them."""

    calls: int = 0
    seconds: float = 0.0
    request_id: str = ""
    principal: Principal | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


class UnreadLog:
    """Lines about calls that ended unread, because writing one for each would cost more than what is told of.

    The first of its kind has a line at once; those that follow within :data:`TOGETHER` share one, which says how many
    they are (``calls``) and describes the latest.
    """

    def __init__(self) -> None:
        self._alike: dict[_Key, _Alike] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(
        self,
        method: str,
        code: str,
        seconds: float,
        request_id: str,
        principal: Principal | None,
        reason: str = "",
        notes: Mapping[str, str] = NOTHING,
    ) -> None:
        """A call was refused for a reason, or answered with these notes."""
        kind = reason or notes.get("answer-kind", "")
        key = method, code, kind, (principal.tenant, principal.name) if principal is not None else None
        alike = self._alike.get(key)
        if alike is None:
            log_call(method, code, seconds, request_id, principal, notes, reason)
            self._alike[key] = _Alike()
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(TOGETHER, self._due)
            return
        alike.calls += 1
        alike.seconds, alike.request_id, alike.principal, alike.notes = seconds, request_id, principal, notes

    def flush(self) -> None:
        """Writes what has not been written; the next call of any kind is a first one again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        alikes, self._alike = self._alike, {}
        for key, alike in alikes.items():
            if alike.calls:
                self._write(key, alike)

    def _due(self) -> None:
        self._timer = None
        for key, alike in list(self._alike.items()):
            if alike.calls:
                self._write(key, alike)
                self._alike[key] = _Alike()
            else:
                del self._alike[key]
        if self._alike:
            self._timer = asyncio.get_running_loop().call_later(TOGETHER, self._due)

    @staticmethod
    def _write(key: _Key, alike: _Alike) -> None:
        method, code, kind, _ = key
        reason = "" if alike.notes else kind
        log_call(
            method,
            code,
            alike.seconds,
            alike.request_id,
            alike.principal,
            alike.notes,
            reason,
            calls=alike.calls,
        )
