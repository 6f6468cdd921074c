"""Dashboards that were answered from the cache before, recognised by their bytes.

A request that comes again, byte for byte but for its id, from the same principal, means the same. So reading, checking
and planning it again is left out, which costs ten times what is left: whether the answers are still held and still
fresh is asked anew every time, and what the status says of their age is written anew.

Ranges relative to now lead to other instants with the next minute at the earliest, whatever their unit and zone; until
then such a request means the same too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.domain.principal import Principal
from broker.domain.query import RelativeRange
from broker.domain.request import DashboardAsk, DashboardOutcome
from broker.ports.clock import Clock
from broker.transport.call import Call
from broker.transport.decode_values import is_uuid
from broker.transport.prepared import Prepared
from broker.transport.services import Repeat

MOST, LARGEST = 4_096, 8 * 1024
"""Requests that are remembered, and the bytes of the largest."""
_ID_TAG, _ID_SIZE = 0x0A, 36
_MINUTE = timedelta(minutes=1)

Again = Callable[[Sequence[object]], Repeat | None]
"""The answers for which the application gave its tokens, if all are still held and fresh."""


@dataclass(slots=True)
class _Known:
    """A request: who asked it, until when it means the same, the ids of its panels and their tokens.

    ``repeat`` is what was found for it last, ``prepared`` that as a response.
    """

    principal: Principal
    until: datetime | None
    ids: tuple[str, ...]
    tokens: tuple[object, ...]
    repeat: Repeat | None = None
    prepared: Prepared | None = None


class Recollection:
    """The requests that are remembered, latest used last."""

    def __init__(self, again: Again, clock: Clock) -> None:
        self._again, self._clock = again, clock
        self._known: OrderedDict[tuple[bytes, str, str], _Known] = OrderedDict()

    def recall(self, body: bytes, principal: Principal, limit: int, now: float) -> Prepared | None:
        """The response to a request that :func:`split` has taken the id from, if its answers are still fresh.

        A response is counted against what the caller may have; what is no response, is not.
        """
        name = body, principal.tenant, principal.name
        known = self._known.get(name)
        if known is None or (known.principal is not principal and known.principal != principal):
            return None  # the same name may come with other grants
        if known.until is not None and self._clock.now() >= known.until:
            del self._known[name]
            return None
        repeat, prepared = known.repeat, known.prepared
        if repeat is None or prepared is None or not repeat.stands(now):
            repeat = known.repeat = self._again(known.tokens)
            if repeat is None:
                return None
            prepared = known.prepared = Prepared(known.ids, repeat.found, repeat.judged)
        self._known.move_to_end(name)
        return prepared if prepared.size <= limit and repeat.allowed() else None

    def remember(self, call: Call, ask: DashboardAsk, outcome: DashboardOutcome) -> None:
        """Takes note of a request, if every panel was answered by something that can be asked for again."""
        tokens = tuple(panel.token for panel in outcome.panels)
        _, body = split(call.raw)
        if len(body) > LARGEST or any(token is None for token in tokens):
            return
        ranges = [panel.query.time.range for panel in ask.panels if panel.query.time is not None]
        relative = any(isinstance(each, RelativeRange) for each in ranges)
        until = call.context.received.replace(second=0, microsecond=0) + _MINUTE if relative else None
        principal = call.context.principal
        name = body, principal.tenant, principal.name
        self._known[name] = _Known(
            principal, until, tuple(panel.panel_id for panel in outcome.panels), tokens
        )
        self._known.move_to_end(name)
        if len(self._known) > MOST:
            self._known.popitem(last=False)


def split(raw: bytes) -> tuple[str, bytes]:
    """The request's own id and the other bytes; an id that is not where every library writes it stays among them."""
    if len(raw) > 2 + _ID_SIZE and raw[0] == _ID_TAG and raw[1] == _ID_SIZE:
        named = raw[2 : 2 + _ID_SIZE].decode("latin-1")
        if is_uuid(named):
            return named, raw[2 + _ID_SIZE :]
    return "", raw
