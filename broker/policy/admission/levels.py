"""A queue for each criticality: whoever matters more goes first, and tenants are equals among those who matter as much.

What a criticality level gets is what the levels above it leave, as in Google's SRE book: a level is refused only when
all lower ones are. Criticality comes from the authenticated identity, so nobody helps himself to it, and a tenant
cannot make others wait but within its level.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.domain.principal import Criticality
from broker.policy.admission.fair_queue import Entry, FairQueue, Flow


class Levels:
    """The waiters of one pool."""

    def __init__(self, max_debt: float) -> None:
        self._descending: list[FairQueue] = []
        for level in sorted(Criticality, reverse=True):
            self._descending.append(FairQueue(max_debt, level, self._descending[::-1]))
        self.levels = self._descending[::-1]

    def head(self) -> Entry:
        """The request that is served next. Somebody must wait."""
        for queue in self._descending:
            if queue.heads:
                return queue.heads[0][2].waiters[0][1]
        raise IndexError("nobody waits")

    def waiting(self) -> Iterator[FairQueue]:
        """The levels in which somebody waits, in the order of service."""
        return (queue for queue in self._descending if queue.heads)

    def crowd(self) -> Entry | None:
        """The last request of the tenant with most waiters, of the lowest level that has any."""
        for queue in self.levels:
            if queue.heads:
                return queue.crowd()
        return None

    def oldest(self) -> float | None:
        """Since when the one who has waited longest waits."""
        times = [queue.oldest() for queue in self.levels]
        return min((since for since in times if since is not None), default=None)

    def flows(self) -> Iterator[Flow]:
        """Every tenant's flow at every level."""
        return (flow for queue in self.levels for flow in queue.flows.values())
