"""The gate that closes when the server drains, and the end of all calls when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from broker.domain.errors import BrokerError, ErrorReason


class Gate:
    """Open until the server drains; then new calls are refused, and watches end so that watchers go on elsewhere.

    Calls that still run when the time for that is over are ended too, by bringing their time limits forward, so that
    their callers get a reason and a hint, which a server that only cancels them would not give.
    """

    def __init__(self) -> None:
        self.closed = False
        self._calls: dict[asyncio.Timeout, bool] = {}
        self._ended: set[asyncio.Timeout] = set()

    def close(self) -> None:
        """Refuses from now on, and ends the watches."""
        self.closed = True
        self._end([limit for limit, watch in self._calls.items() if watch])

    def end(self) -> None:
        """Ends every call."""
        self._end(self._calls)

    def _end(self, limits: Iterable[asyncio.Timeout]) -> None:
        now = asyncio.get_running_loop().time()
        for limit in limits:
            if not limit.expired():
                self._ended.add(limit)
                limit.reschedule(now)

    def ended(self, limit: asyncio.Timeout) -> bool:
        """Whether a time limit is over because of the gate."""
        return limit in self._ended

    @contextmanager
    def open(self, limit: asyncio.Timeout, *, watch: bool) -> Iterator[None]:
        """A call with its time limit, which may be brought forward; a ``watch`` has no end of its own."""
        self._calls[limit] = watch
        try:
            yield
        finally:
            del self._calls[limit]

    @staticmethod
    def refusal() -> BrokerError:
        """What a caller is told."""
        return BrokerError(
            ErrorReason.DRAINING, "This server is stopping. Call again; another one will answer."
        )
