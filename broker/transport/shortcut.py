"""The short way of calls whose response is at hand: no message, no deadline, no coroutine, no span that nobody keeps.

A dashboard that came before is answered in less time than the path of all calls takes to begin, so what the path does
is done here once more, by what is remembered of the call before: who calls with the same metadata over the same
connection, what the same bytes mean to him, and what may have changed since. Whatever is not remembered, or would not
be answered, goes the long way. Metrics, log and trace are the same. Of the trailers there is the kind alone: such an
answer is never degraded, its age and the request id are in the message, and every trailer costs as much as finding it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import grpc

from broker.domain.answer import AnswerKind
from broker.domain.principal import Principal
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry
from broker.transport.access import UnreadLog
from broker.transport.arrival import CRITICALITY, PREFIX, REQUEST_ID, named
from broker.transport.call import RESPONSE_LIMIT, Recall
from broker.transport.recollection import split

MOST = 4_096
"""Callers that are remembered."""
OF_CALL = frozenset({"traceparent", "tracestate", "baggage", REQUEST_ID})
"""Metadata that belongs to one call, and is told of it."""
OF_CALLER = frozenset({CRITICALITY, RESPONSE_LIMIT})
"""Metadata of who calls, beside that by which he is identified."""
_NOTES: Mapping[str, str] = MappingProxyType({"answer-kind": AnswerKind.CACHE_FRESH.value})
_TRAILERS = tuple((f"{PREFIX}{name}", text) for name, text in _NOTES.items())
_NOTHING: Mapping[str, str] = MappingProxyType({})

Context = grpc.aio.ServicerContext[Any, Any]
_Name = tuple[object, ...]
"""What a caller is known by: the other end of the connection, and metadata."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and the bytes of the largest message that he receives."""

    principal: Principal
    limit: int


class Met:
    """A call whose caller was looked for: when it came, who it is if that is known, and what was said of the call."""

    __slots__ = ("caller", "name", "said", "since")

    def __init__(self, since: float, name: _Name, said: Mapping[str, str], caller: Caller | None) -> None:
        self.since, self.name, self.said, self.caller = since, name, said, caller


class Shortcut:
    """Answers calls of one method.

    ``ids`` makes request ids for callers that bring none; metadata of these ``names`` identifies callers.
    """

    def __init__(
        self,
        method: str,
        recall: Recall,
        telemetry: Telemetry,
        log: UnreadLog,
        clock: Clock,
        ids: Callable[[], str],
        names: frozenset[str],
    ) -> None:
        self._method, self._recall, self._telemetry, self._log = method, recall, telemetry, log
        self._now, self._ids, self._telling = clock.monotonic, ids, OF_CALLER | names
        self._callers: dict[_Name, Caller] = {}

    def meet(self, context: Context) -> Met:
        """Looks for the caller."""
        since = self._now()
        name: list[object] = [context.peer()]
        said = _NOTHING
        for pair in context.invocation_metadata() or ():
            if pair[0] in self._telling:
                name.append(pair)
            elif pair[0] in OF_CALL and isinstance(pair[1], str):
                said = {**said, pair[0]: pair[1]}
        told = tuple(name)
        return Met(since, told, said, self._callers.get(told))

    def know(self, met: Met, principal: Principal, limit: int, *, lasting: bool) -> None:
        """Says who it was; ``lasting`` where the same metadata over the same connection always stands for him."""
        met.caller = Caller(principal, limit)
        if lasting:
            if len(self._callers) >= MOST:
                self._callers.clear()
            self._callers[met.name] = met.caller

    def answer(self, raw: bytes, context: Context, met: Met) -> bytes | None:
        """The response, with the trailers set; None when the call has to go the long way."""
        caller = met.caller
        if caller is None:
            return None
        request_id, body = split(raw)
        recalled = self._recall(body, caller.principal, caller.limit, met.since)
        if recalled is None:
            return None
        request_id = request_id or (named(met.said) if met.said else "") or self._ids()
        response = recalled.encode(request_id, met.since)
        context.set_trailing_metadata(_TRAILERS)
        seconds = self._now() - met.since
        self._telemetry.recalled(self._method, met.said, request_id, recalled.answers, seconds)
        self._log.add(self._method, "OK", seconds, request_id, caller.principal, notes=_NOTES)
        return response
