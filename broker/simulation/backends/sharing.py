"""A database whose queries share its slots evenly, and thrash when there are too many of them.

Time is virtual service: a clock that runs as fast as a single query progresses. A query of 2 s of work that starts when
that clock shows 5 ends when it shows 7, however often the speed changes in between. So one heap of ends is enough and
an event costs the logarithm of the number of queries, not the number.
"""

from __future__ import annotations

import heapq
import math

from broker.policy.admission.values import Pressure
from broker.simulation.call import Call


class Sharing:
    """Processor sharing: K slots of full speed; with n > K queries all together do K / (1 + thrash (n/K - 1)).

    Queries of several seats take as many shares. ``done`` is the work done so far, in seat-seconds.
    """

    full_until_slots = True
    """Whether everything runs at full speed while there are no more queries than slots; saves asking."""

    def __init__(self, slots: float, thrash: float = 0.25) -> None:
        self.slots = slots
        self.thrash = thrash
        self.speed = 1.0
        self.active = 0
        self.next_end = math.inf
        self.done = 0.0
        self._heap: list[tuple[float, int, Call]] = []
        self._virtual = 0.0
        self._at = 0.0
        self._rate = 1.0

    def start(self, call: Call, now: float) -> None:
        """A query begins."""
        self._advance(now)
        ends = call.ends = self._virtual + call.work
        heapq.heappush(self._heap, (ends, call.number, call))
        self.active += call.seats
        self._pace()

    def stop(self, call: Call, now: float) -> None:
        """A query is cut short."""
        self._advance(now)
        call.ends = -1.0
        self.active -= call.seats
        self._pace()

    def pop(self, now: float) -> Call:
        """The query that ends at ``next_end``, which is now."""
        self._advance(now)
        ends, _, call = heapq.heappop(self._heap)
        self._virtual = max(self._virtual, ends)  # what rounding left
        call.ends = -1.0
        self.active -= call.seats
        self._pace()
        return call

    def change(self, now: float, slots: float | None, speed: float | None, node: int | None = None) -> None:  # noqa: ARG002 - one node
        """Other slots, or another speed, from now on."""
        self._advance(now)
        if slots is not None:
            self.slots = slots
        if speed is not None:
            self.speed = speed
        self._pace()

    def pressure(self) -> Pressure:
        """What the database tells when it is asked."""
        return Pressure(active=self.active)

    def done_by(self, now: float) -> float:
        """Work done until now, in seat-seconds."""
        return self.done + max(0.0, now - self._at) * self._rate * self.active

    def full_speed(self) -> float:
        """Seats that run at full speed."""
        return self.slots

    def throughput(self) -> float:
        """Seat-seconds of work per second, by all queries together, at normal speed."""
        active, slots = self.active, self.slots
        if active <= slots:
            return active
        return slots / (1.0 + self.thrash * (active / slots - 1.0)) if slots > 0 else 0.0

    def _advance(self, now: float) -> None:
        if (passed := now - self._at) > 0.0:
            self._at = now
            step = passed * self._rate
            self._virtual += step
            self.done += step * self.active

    def _pace(self) -> None:
        active = self.active
        if (active <= self.slots and self.full_until_slots) or not active:
            rate = self.speed
        else:
            rate = self.speed * self.throughput() / active
        self._rate = rate
        heap = self._heap
        while heap:
            ends, _, call = heap[0]
            if call.ends == ends:
                left = ends - self._virtual
                self.next_end = (
                    math.inf if rate <= 0.0 else self._at + left / rate if left > 0.0 else self._at
                )
                return
            heapq.heappop(heap)
        self.next_end = math.inf
