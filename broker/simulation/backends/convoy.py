"""A database in which every query passes one lock, and waiters make handing it over dearer."""

from __future__ import annotations

from broker.policy.admission.values import Pressure
from broker.simulation.backends.sharing import Sharing


class Convoy(Sharing):
    """The part ``serial`` of every query needs the lock, so all together do 1 / serial at most, and less with waiters.

    With n queries, n - 1 / serial of them wait for the lock, and each adds ``handover`` of its price: throughput is
    (1 / serial) / (1 + handover (n - 1 / serial)). A convoy stays until there are few enough queries.
    """

    full_until_slots = False

    def __init__(self, slots: float, thrash: float, serial: float, handover: float) -> None:
        super().__init__(slots, thrash)
        self.most = 1.0 / serial
        self.handover = handover

    def full_speed(self) -> float:
        """Seats that run at full speed: as many as the lock lets through."""
        return min(self.slots, self.most)

    def throughput(self) -> float:
        """Seat-seconds of work per second at normal speed."""
        return min(super().throughput(), self.most / (1.0 + self.handover * self._waiting()))

    def pressure(self) -> Pressure:
        """Those who wait for the lock are known to the database."""
        return Pressure(active=self.active, lock_waiting=int(self._waiting()))

    def _waiting(self) -> float:
        return max(0.0, self.active - self.most)
