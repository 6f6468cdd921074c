"""A queue for each criticality: whoever matters more goes first, and tenants are equals among those who matter as much.

What a criticality level gets is what the levels above it leave, as in Google's SRE book: a level is refused only when
all lower ones are. Criticality comes from the authenticated identity, so nobody helps himself to it, and a tenant
cannot make others wait but within its level.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.domain.principal import Criticality
from broker.policy.admission.entry import Entry, Flow
from broker.policy.admission.fair_queue import FairQueue


class Levels:
    """The waiters of one pool."""

    def __init__(self, max_debt: float) -> None:
        self.levels = tuple(FairQueue(max_debt, int(level)) for level in Criticality)
        self._descending = self.levels[::-1]
        self._above = tuple(self.levels[queue.level + 1 :] for queue in self.levels)
        self.length = 0

    def of(self, flow: Flow) -> FairQueue:
        """The queue of a tenant's flow."""
        return self.levels[flow.level]

    def push(self, entry: Entry) -> None:
        """Lets a request wait."""
        self.levels[entry.flow.level].push(entry)
        self.length += 1

    def remove(self, entry: Entry) -> None:
        """Takes a request out that was not served."""
        self.levels[entry.flow.level].remove(entry)
        self.length -= 1

    def take(self, entry: Entry) -> None:
        """Takes a request out that is served now, and charges its tenant."""
        self.levels[entry.flow.level].take(entry)
        self.length -= 1

    def ahead(self, entry: Entry, more: float = 0.0) -> float:
        """Predicted work before a request that waits, or joins now; ``more`` comes of its tenant before it."""
        flow = entry.flow
        level = flow.level
        work = self.levels[level].behind(flow, flow.work_before(entry.rank) + more)
        for queue in self._above[level]:
            work += queue.work
        return work

    def head(self) -> tuple[FairQueue, Entry]:
        """The request that is served next, and its level. Somebody must wait."""
        for queue in self._descending:
            if queue.length:
                return queue, queue.head()
        raise IndexError("nobody waits")

    def waiting(self) -> Iterator[FairQueue]:
        """The levels in which somebody waits, in the order of service."""
        return (queue for queue in self._descending if queue.length)

    def crowd(self) -> Entry | None:
        """The last request of the tenant with most waiters, of the lowest level that has any."""
        for queue in self.levels:
            if queue.length:
                return queue.crowd()
        return None

    def oldest(self) -> float | None:
        """Since when the one who has waited longest waits."""
        times = [queue.oldest() for queue in self.levels]
        return min((since for since in times if since is not None), default=None)

    def flows(self) -> Iterator[Flow]:
        """Every tenant's flow at every level."""
        return (flow for queue in self.levels for flow in queue.flows.values())
