"""The gate that closes when the server drains, and the ends of calls that the server brings about itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Self

from broker.domain.errors import BrokerError, ErrorReason


class Running:
    """A call inside: its time limit, whether it has no end of its own, the bytes that it sent, and why it was ended.

    It is one of the calls while its context is entered.
    """

    __slots__ = ("_calls", "ended", "limit", "sent", "watch")

    def __init__(self, calls: set[Running], limit: asyncio.Timeout, watch: bool) -> None:
        self._calls = calls
        self.limit = limit
        self.watch = watch
        self.sent = 0
        self.ended: BrokerError | None = None

    def __enter__(self) -> Self:
        self._calls.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.remove(self)


class Gate:
    """Open until the server drains; then new calls are refused, and watches end so that watchers go on elsewhere.

    Calls that still run when the time for that is over are ended too, by bringing their time limits forward, so that
    their callers get a reason and a hint, which a server that only cancels them would not give.
    """

    def __init__(self) -> None:
        self.closed = False
        self._calls: set[Running] = set()

    def close(self) -> None:
        """Refuses from now on, and ends the watches."""
        self.closed = True
        self._end([call for call in self._calls if call.watch], self.refusal())

    def end(self) -> None:
        """Ends every call."""
        self._end(self._calls, self.refusal())

    def cut(self, error: BrokerError) -> int:
        """Ends the stream that has sent most, with an error; returns the bytes that it sent, 0 when there is none."""
        streams = [call for call in self._calls if call.sent and call.ended is None]
        largest = max(streams, key=lambda call: call.sent, default=None)
        if largest is None:
            return 0
        self._end([largest], error)
        return largest.sent

    @staticmethod
    def _end(calls: Iterable[Running], error: BrokerError) -> None:
        now = asyncio.get_running_loop().time()
        for call in calls:
            if not call.limit.expired():
                call.ended = error
                call.limit.reschedule(now)

    def open(self, limit: asyncio.Timeout, *, watch: bool) -> Running:
        """A call with its time limit, which may be brought forward; a ``watch`` has no end of its own."""
        return Running(self._calls, limit, watch)

    @staticmethod
    def refusal() -> BrokerError:
        """What a caller is told."""
        return BrokerError(
            ErrorReason.DRAINING, "This server is stopping. Call again; another one will answer."
        )
