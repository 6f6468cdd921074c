"""Which transactions a snapshot of PostgreSQL sees, from its text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransactionView:
    """A ``pg_snapshot``: transactions before ``xmin`` are over, those from ``xmax`` on had not begun.

    Of those between, ``running`` were in progress; the others were over. Numbers are 64 bits wide and never come again.
    That a transaction is over says not that it committed: what an aborted one wrote is seen by nobody anyway.
    """

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> TransactionView:
        """Reads ``xmin:xmax:xip,xip,...``. Raises ValueError."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, running.split(","))) if running else frozenset())

    def sees(self, xid: int) -> bool:
        """Whether the transaction was over, as ``pg_visible_in_snapshot`` says."""
        return xid < self.xmax and xid not in self.running
