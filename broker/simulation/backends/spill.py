"""A database whose queries spill to disk when their memory does not fit together, which slows all of them."""

from __future__ import annotations

from broker.policy.admission.values import Pressure
from broker.simulation.backends.sharing import Sharing
from broker.simulation.call import Call


class Spill(Sharing):
    """Sharing with thrash; throughput is divided by 1 + spill (used / memory - 1) beyond the memory."""

    full_until_slots = False

    def __init__(self, slots: float, thrash: float, memory: int, spill: float) -> None:
        super().__init__(slots, thrash)
        self.memory = memory
        self.spill = spill
        self.used = 0

    def start(self, call: Call, now: float) -> None:
        """A query begins and takes its memory."""
        self.used += call.memory
        super().start(call, now)

    def stop(self, call: Call, now: float) -> None:
        """A query is cut short and gives its memory back."""
        self.used -= call.memory
        super().stop(call, now)

    def pop(self, now: float) -> Call:
        """The query that ends now, with what all others use from now on."""
        call = super().pop(now)
        self.used -= call.memory
        self._pace()
        return call

    def throughput(self) -> float:
        """Seat-seconds of work per second at normal speed."""
        full = super().throughput()
        if self.used <= self.memory:
            return full
        return full / (1.0 + self.spill * (self.used / self.memory - 1.0))

    def pressure(self) -> Pressure:
        """Queries that spill are seen waiting for input and output."""
        waiting = self.active if self.used > self.memory else 0
        return Pressure(active=self.active, io_waiting=waiting, memory=min(1.0, self.used / self.memory))
