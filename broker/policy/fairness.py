"""How evenly tenants that had to wait were served of late: Jain's index over a sliding window.

The index is (sum of x)² / (n · sum of x²) over the seat-seconds x of n tenants: 1 when all had the same, 1/n when one
had everything. Only tenants that waited in the window count, because nobody owes seats to those who ask for none.
(R. Jain, D. Chiu, W. Hawe: A quantitative measure of fairness, 1984.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

WINDOW = 30.0
SLICES = 6
MOST_TENANTS = 1024
"""Tenants that a slice remembers; of more, the first ones."""


def jain(values: Iterable[float]) -> float:
    """Jain's index; 1 for fewer than two values, and when all are 0."""
    taken = list(values)
    squares = sum(x * x for x in taken)
    return sum(taken) ** 2 / (len(taken) * squares) if len(taken) > 1 and squares else 1.0


class Fairness:
    """The index of one pool. ``now`` is the monotonic clock in seconds; ``index`` may be read from any thread."""

    __slots__ = ("_served", "_slice", "_waited", "index")

    def __init__(self) -> None:
        self._slice = 0
        self._served: deque[dict[str, float]] = deque([{}], maxlen=SLICES)
        self._waited: deque[set[str]] = deque([set()], maxlen=SLICES)
        self.index = 1.0

    def served(self, tenant: str, seconds: float, now: float) -> None:
        """A tenant's request gave back seats after so many seat-seconds."""
        self.turn(now)
        served = self._served[-1]
        if tenant in served or len(served) < MOST_TENANTS:
            served[tenant] = served.get(tenant, 0.0) + min(seconds, WINDOW)

    def waited(self, tenant: str, now: float) -> None:
        """A tenant's request had to wait, or was refused for want of seats."""
        self.turn(now)
        waited = self._waited[-1]
        if len(waited) < MOST_TENANTS:
            waited.add(tenant)

    def turn(self, now: float) -> None:
        """Begins a new slice when it is time, and with it decides the index anew."""
        current = int(now / (WINDOW / SLICES))
        if current == self._slice:
            return
        self.index = self._index()
        for _ in range(min(SLICES, current - self._slice)):
            self._served.append({})
            self._waited.append(set())
        self._slice = current

    def _index(self) -> float:
        waited = set().union(*self._waited)
        return jain(sum(served.get(tenant, 0.0) for served in self._served) for tenant in waited)
