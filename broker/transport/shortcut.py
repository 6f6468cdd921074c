"""The short way of calls whose response is at hand: no message, no deadline, no coroutine, no span that nobody keeps.

A dashboard that came before is answered in less time than the path of all calls takes to begin, so what the path does
is done here once more, by what is remembered of the call before: who calls with the same metadata over the same
connection, what the same bytes mean to him, and what may have changed since. Whatever is not remembered, or would not
be answered, goes the long way. Metrics, log and trace are the same. Of the trailers there is the kind alone: such an
answer is never degraded, its age and the request id are in the message, and every trailer costs as much as finding it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import grpc

from broker.domain.answer import AnswerKind
from broker.domain.principal import Principal
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry
from broker.transport.access import UnreadLog
from broker.transport.arrival import PREFIX, REQUEST_ID, named
from broker.transport.call import Recall
from broker.transport.recollection import split

MOST = 4_096
"""Callers that are remembered."""
PER_CALL = frozenset(
    {"traceparent", "tracestate", "baggage", "grpc-trace-bin", "grpc-previous-rpc-attempts", REQUEST_ID}
)
"""Metadata that says nothing of who calls."""
_NOTES: Mapping[str, str] = MappingProxyType({"answer-kind": AnswerKind.CACHE_FRESH.value})
_TRAILERS = tuple((f"{PREFIX}{name}", text) for name, text in _NOTES.items())
_NOTHING: Mapping[str, str] = MappingProxyType({})

Context = grpc.aio.ServicerContext[Any, Any]
Said = Iterable[tuple[str, str | bytes]]
_Name = tuple[str, tuple[tuple[str, str | bytes], ...]]


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who calls, and the bytes of the largest message that he receives."""

    principal: Principal
    limit: int


class Shortcut:
    """Answers calls of one method. ``ids`` makes request ids for callers that bring none."""

    def __init__(
        self,
        method: str,
        recall: Recall,
        telemetry: Telemetry,
        log: UnreadLog,
        clock: Clock,
        ids: Callable[[], str],
    ) -> None:
        self._method, self._recall, self._telemetry, self._log = method, recall, telemetry, log
        self._now, self._ids = clock.monotonic, ids
        self._callers: dict[_Name, _Caller] = {}

    def answer(self, raw: bytes, context: Context) -> bytes | None:
        """The response, with the trailers set; None when the call has to go the long way."""
        now = self._now()
        lasting, said = _parted(context.invocation_metadata() or ())
        caller = self._callers.get((context.peer(), lasting))
        if caller is None:
            return None
        request_id, body = split(raw)
        recalled = self._recall(body, caller.principal, caller.limit, now)
        if recalled is None:
            return None
        request_id = request_id or (named(said) if said else "") or self._ids()
        response = recalled.encode(request_id, now)
        context.set_trailing_metadata(_TRAILERS)
        seconds = self._now() - now
        self._telemetry.recalled(self._method, said, request_id, recalled.answers, seconds)
        self._log.add(self._method, "OK", seconds, request_id, caller.principal, notes=_NOTES)
        return response

    def know(self, context: Context, principal: Principal, limit: int) -> None:
        """Takes note of a caller, whom the same metadata over the same connection will always stand for."""
        lasting, _ = _parted(context.invocation_metadata() or ())
        if len(self._callers) >= MOST:
            self._callers.clear()
        self._callers[context.peer(), lasting] = _Caller(principal, limit)


def _parted(metadata: Said) -> tuple[tuple[tuple[str, str | bytes], ...], Mapping[str, str]]:
    """What tells callers apart, and what belongs to one call."""
    pairs = tuple(metadata)
    for name, _ in pairs:
        if name in PER_CALL:
            break
    else:
        return pairs, _NOTHING
    said = {name: text for name, text in pairs if name in PER_CALL and isinstance(text, str)}
    return tuple(pair for pair in pairs if pair[0] not in PER_CALL), said
