"""The response to a dashboard, encoded but for the ages in it and the request id, which are put in for every call.

Fields of protobuf may stand in any order, and a number may be written in more bytes than it needs (protobuf.dev,
"Encoding"). So what differs from call to call has the same place and the same length every time, and a response is put
together from pieces without anything being counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.domain.held import Held
from broker.policy.freshness import Freshness, given
from broker.transport.encode_status import encode_status
from broker.transport.wire import WIDE, head, text, wide
from querybroker.v1 import answer_pb2, query_service_pb2

_PANELS = query_service_pb2.DashboardResponse.PANELS_FIELD_NUMBER
_REQUEST_ID = query_service_pb2.DashboardResponse.REQUEST_ID_FIELD_NUMBER
_PANEL_ID = query_service_pb2.PanelAnswer.PANEL_ID_FIELD_NUMBER
_PANEL_STATUS = query_service_pb2.PanelAnswer.STATUS_FIELD_NUMBER
_PANEL_TABLE = query_service_pb2.PanelAnswer.TABLE_FIELD_NUMBER
_STATUS_REQUEST_ID = answer_pb2.AnswerStatus.REQUEST_ID_FIELD_NUMBER
_STALENESS = head(answer_pb2.AnswerStatus.STALENESS_FIELD_NUMBER, WIDE)
_BOUND = head(answer_pb2.AnswerStatus.GUARANTEE_BOUND_FIELD_NUMBER, WIDE)
_USUAL = 36
"""Characters of a UUID."""


class Prepared:
    """A response to panels with these ids, by held answers that were ``judged`` at a monotonic instant.

    ``size`` is that of the encoded response; ``answers`` counts the panels.
    """

    __slots__ = (
        "_age",
        "_found",
        "_ids",
        "_judged",
        "_last",
        "_length",
        "_panels",
        "_told",
        "answers",
        "size",
    )

    def __init__(self, ids: Sequence[str], found: Sequence[tuple[Held, Freshness]], judged: float) -> None:
        self._ids, self._found, self._judged = ids, found, judged
        self.answers = len(found)
        self._prepare(_USUAL)

    def encode(self, request_id: str, now: float) -> bytes:
        """The response to a call that has an id of ASCII characters."""
        if len(request_id) != self._length:
            self._prepare(len(request_id))
        named, passed = request_id.encode(), now - self._judged
        pieces: list[bytes] = []
        for opening, staleness, bound, closing, table in self._panels:
            pieces += opening, wide(staleness + passed)
            if bound is not None:
                pieces += _BOUND, wide(bound + passed)
            pieces += self._told, named, closing, table
        pieces += self._last, named
        return b"".join(pieces)

    def _prepare(self, length: int) -> None:
        """Encodes everything else, for ids of so many characters."""
        self._length = length
        self._told, self._last = head(_STATUS_REQUEST_ID, length), head(_REQUEST_ID, length)
        self._panels: list[tuple[bytes, float, float | None, bytes, bytes]] = []
        self.size = len(self._last) + length
        for name, (held, fresh) in zip(self._ids, self._found, strict=True):
            table = held.table.encoded
            lasting = encode_status(given(held, replace(fresh, bound=None) if fresh.growing else fresh), "")
            lasting.ClearField("staleness")
            fixed = lasting.SerializeToString() + _STALENESS
            durations = (WIDE + len(_BOUND) + WIDE) if fresh.growing else WIDE
            status = len(fixed) + durations + len(self._told) + length
            closing = head(_PANEL_TABLE, len(table))
            start = text(_PANEL_ID, name) + head(_PANEL_STATUS, status)
            panel = len(start) + status + len(closing) + len(table)
            opening = head(_PANELS, panel) + start + fixed
            bound = fresh.bound if fresh.growing else None
            self._panels.append((opening, fresh.staleness, bound, closing, table))
            self.size += len(head(_PANELS, panel)) + panel
