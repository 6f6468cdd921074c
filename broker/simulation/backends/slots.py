"""A database with a fixed number of workers; what does not get one waits inside, first come, first served."""

from __future__ import annotations

from collections import deque

from broker.simulation.backends.sharing import Sharing
from broker.simulation.call import Call


class Slots(Sharing):
    """Everything that runs is at full speed; the rest stands in a queue that the broker does not see."""

    def __init__(self, slots: float) -> None:
        super().__init__(slots)
        self.queue: deque[Call] = deque()

    def start(self, call: Call, now: float) -> None:
        """A query gets a worker, or stands in line."""
        if self.active + call.seats > self.slots or self.queue:
            self.queue.append(call)
        else:
            super().start(call, now)

    def stop(self, call: Call, now: float) -> None:
        """A query is cut short, running or not."""
        if call.ends < 0:
            self.queue.remove(call)
        else:
            super().stop(call, now)
            self._fill()

    def pop(self, now: float) -> Call:
        """The query that ends now; its worker takes the next."""
        call = super().pop(now)
        self._fill()
        return call

    def change(self, now: float, slots: float | None, speed: float | None, node: int | None = None) -> None:
        """Other slots, or another speed; what runs may end."""
        super().change(now, slots, speed, node)
        self._fill()

    def throughput(self) -> float:
        """Every running query at full speed."""
        return self.active

    def _fill(self) -> None:
        queue = self.queue
        while queue and self.active + queue[0].seats <= self.slots:
            super().start(queue.popleft(), self._at)
