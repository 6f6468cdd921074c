"""Dashboards that were answered from the cache before, recognised by their bytes.

A request that comes again, byte for byte but for its id, from the same principal, means the same. So reading, checking
and planning it again is left out, which costs ten times what is left: whether the answers are still held and still
fresh is asked anew every time, and what the status says of their age is encoded anew. The rest of a status is encoded
once, because fields of protobuf may stand in any order (protobuf.dev, "Encoding").

Ranges relative to now lead to other instants with the next minute at the earliest, whatever their unit and zone; until
then such a request means the same too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from broker.domain.answer import AnswerKind, AnswerStatus, Guarantee
from broker.domain.held import Held
from broker.domain.principal import Principal
from broker.domain.query import RelativeRange
from broker.domain.request import DashboardAsk, DashboardOutcome
from broker.policy.freshness import Freshness, given
from broker.ports.clock import Clock
from broker.transport.call import Call, Recalled
from broker.transport.decode_values import is_uuid
from broker.transport.encode_status import duration, encode_status, timestamp
from broker.transport.wire import head, text
from querybroker.v1 import answer_pb2

_PANELS, _REQUEST_ID = 1, 2
_PANEL_ID, _PANEL_STATUS, _PANEL_TABLE = 1, 2, 3
MOST, LARGEST = 4_096, 8 * 1024
"""Requests that are remembered, and the bytes of the largest."""
_ID_TAG, _ID_SIZE = 0x0A, 36
_MINUTE = timedelta(minutes=1)

Again = Callable[[Sequence[object]], "Sequence[tuple[Held, Freshness]] | None"]
"""The answers by which the application gave its tokens, if all are still held and fresh."""


@dataclass(slots=True)
class _Panel:
    """``opening`` is its id; ``fixed`` what does not change of the status that was ``given`` last with its promise."""

    opening: bytes
    given: tuple[AnswerStatus, Guarantee] | None = None
    fixed: bytes = b""


@dataclass(frozen=True, slots=True)
class _Known:
    """A request: who asked it, until when it means the same, its panels and their tokens."""

    principal: Principal
    until: datetime | None
    panels: tuple[_Panel, ...]
    tokens: tuple[object, ...]


class Recollection:
    """The requests that are remembered, latest used last."""

    def __init__(self, again: Again, clock: Clock) -> None:
        self._again, self._clock = again, clock
        self._known: OrderedDict[tuple[bytes, str, str], _Known] = OrderedDict()

    def recall(self, raw: bytes, principal: Principal, limit: int) -> Recalled | None:
        """The response, if the request is known and its answers are fresh."""
        request_id, body = split(raw)
        name = body, principal.tenant, principal.name
        known = self._known.get(name)
        if known is None or known.principal != principal:
            return None  # the same name may come with other grants
        if known.until is not None and self._clock.now() >= known.until:
            del self._known[name]
            return None
        found = self._again(known.tokens)
        if found is None:
            return None
        self._known.move_to_end(name)
        if sum(len(held.table.encoded) + 1_024 for held, _ in found) > limit:
            return None
        age = max(fresh.staleness for _, fresh in found)
        response = partial(_encoded, known.panels, found)
        return Recalled(response, AnswerKind.CACHE_FRESH, age, len(found), request_id)

    def remember(self, call: Call, ask: DashboardAsk, outcome: DashboardOutcome) -> None:
        """Takes note of a request, if every panel was answered by something that can be asked for again."""
        tokens = tuple(panel.token for panel in outcome.panels)
        _, body = split(call.raw)
        if len(body) > LARGEST or any(token is None for token in tokens):
            return
        ranges = [panel.query.time.range for panel in ask.panels if panel.query.time is not None]
        relative = any(isinstance(each, RelativeRange) for each in ranges)
        until = call.context.received.replace(second=0, microsecond=0) + _MINUTE if relative else None
        panels = tuple(_Panel(text(_PANEL_ID, panel.panel_id)) for panel in outcome.panels)
        principal = call.context.principal
        name = body, principal.tenant, principal.name
        self._known[name] = _Known(principal, until, panels, tokens)
        self._known.move_to_end(name)
        if len(self._known) > MOST:
            self._known.popitem(last=False)


def split(raw: bytes) -> tuple[str, bytes]:
    """The request's own id and the other bytes; an id that is not where every library writes it stays among them."""
    if len(raw) > 2 + _ID_SIZE and raw[0] == _ID_TAG and raw[1] == _ID_SIZE:
        named = raw[2 : 2 + _ID_SIZE].decode(errors="replace")
        if is_uuid(named):
            return named, raw[2 + _ID_SIZE :]
    return "", raw


def _encoded(panels: Sequence[_Panel], found: Sequence[tuple[Held, Freshness]], request_id: str) -> bytes:
    pieces: list[bytes] = []
    for panel, (held, fresh) in zip(panels, found, strict=True):
        table = held.table.encoded
        times = answer_pb2.AnswerStatus(
            as_of=timestamp(fresh.as_of),
            staleness=duration(fresh.staleness),
            guarantee_bound=duration(fresh.bound),
            request_id=request_id,
        ).SerializeToString()
        fixed = _fixed(panel, held, fresh)
        status = head(_PANEL_STATUS, len(fixed) + len(times))
        closing = head(_PANEL_TABLE, len(table))
        size = len(panel.opening) + len(status) + len(fixed) + len(times) + len(closing) + len(table)
        pieces += head(_PANELS, size), panel.opening, status, fixed, times, closing, table
    pieces.append(text(_REQUEST_ID, request_id))
    return b"".join(pieces)


def _fixed(panel: _Panel, held: Held, fresh: Freshness) -> bytes:
    """What does not change while the same answer is held and promises the same."""
    last = panel.given
    if last is None or last[0] is not held.status or last[1] is not fresh.guarantee:
        message = encode_status(given(held, replace(fresh, bound=None)), "")
        message.ClearField("as_of")
        message.ClearField("staleness")
        panel.given, panel.fixed = (held.status, fresh.guarantee), message.SerializeToString()
    return panel.fixed
