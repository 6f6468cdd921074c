"""A queue in which every tenant keeps its own order and tenants take turns."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from broker.policy.admission.values import AdmissionRequest


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits since ``since`` and until ``until`` at most; ``expected`` is the wait it was promised."""

    request: AdmissionRequest
    since: float
    until: float
    expected: float = 0.0


class FairRing:
    """First come, first served inside a tenant; round robin between the tenants that wait.

    A tenant that begins to wait joins at the end of the ring, so nobody gets a turn for having been away.
    """

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, OrderedDict[str, Waiter]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def length_of(self, tenant: str) -> int:
        """How many requests of a tenant wait."""
        return len(self._tenants.get(tenant, ()))

    def tenants(self) -> dict[str, int]:
        """The tenants that wait, and how many requests of each."""
        return {tenant: len(queue) for tenant, queue in self._tenants.items()}

    def push(self, waiter: Waiter) -> None:
        """Puts a waiter behind those of its tenant."""
        self._tenants.setdefault(waiter.request.tenant, OrderedDict())[waiter.request.id] = waiter
        self._length += 1

    def head(self) -> Waiter | None:
        """Whose turn it is."""
        for queue in self._tenants.values():
            return next(iter(queue.values()))
        return None

    def take(self, waiter: Waiter) -> None:
        """Removes a waiter that was served: its tenant goes to the end of the ring."""
        self._drop(waiter)
        if waiter.request.tenant in self._tenants:
            self._tenants.move_to_end(waiter.request.tenant)

    def remove(self, waiter: Waiter) -> None:
        """Removes a waiter that was not served: its tenant keeps its turn."""
        self._drop(waiter)

    def _drop(self, waiter: Waiter) -> None:
        queue = self._tenants[waiter.request.tenant]
        del queue[waiter.request.id]
        if not queue:
            del self._tenants[waiter.request.tenant]
        self._length -= 1

    def ahead_of(self, tenant: str) -> int:
        """How many waiters would be served before a request of the tenant that joins now."""
        own = self.length_of(tenant)
        count, turns = own, own + 1  # those before it in the ring have one turn more than those behind it
        for other, queue in self._tenants.items():
            if other == tenant:
                turns = own
            else:
                count += min(len(queue), turns)
        return count

    def crowd(self) -> Waiter | None:
        """The newest waiter of the tenant with most waiters, the first of them in ring order."""
        if not self._tenants:
            return None
        queue = max(self._tenants.values(), key=len)
        return next(reversed(queue.values()))

    def oldest(self) -> Waiter | None:
        """Who has waited longest."""
        heads = (next(iter(queue.values())) for queue in self._tenants.values())
        return min(heads, key=lambda waiter: waiter.since, default=None)

    def clear(self) -> tuple[Waiter, ...]:
        """Removes everybody, in ring order."""
        waiters = tuple(waiter for queue in self._tenants.values() for waiter in queue.values())
        self._tenants.clear()
        self._length = 0
        return waiters
