"""The gate that closes when the server drains."""

from __future__ import annotations

import asyncio

from broker.domain.errors import BrokerError, ErrorReason


class Gate:
    """Open until the server drains; then new calls are refused, and watches end so that watchers go on elsewhere."""

    def __init__(self) -> None:
        self.closed = False
        self._watches: set[asyncio.Timeout] = set()

    def close(self) -> None:
        """Refuses from now on, and ends the watches."""
        self.closed = True
        now = asyncio.get_running_loop().time()
        for limit in self._watches:
            if not limit.expired():
                limit.reschedule(now)

    def add(self, limit: asyncio.Timeout) -> None:
        """A watch whose time limit may be brought forward."""
        self._watches.add(limit)

    def remove(self, limit: asyncio.Timeout) -> None:
        """The watch has ended."""
        self._watches.discard(limit)

    @staticmethod
    def refusal() -> BrokerError:
        """What a caller is told."""
        return BrokerError(
            ErrorReason.DRAINING, "This server is stopping. Call again; another one will answer."
        )
