"""Several databases behind one name; a query runs on the node with fewest queries for its slots."""

from __future__ import annotations

import math

from broker.policy.admission.values import Pressure
from broker.simulation.backends.sharing import Sharing
from broker.simulation.call import Call


class Replicas:
    """``nodes`` databases that share the slots evenly. One that stands still keeps what it has and gets nothing new."""

    def __init__(self, slots: float, thrash: float, nodes: int) -> None:
        self.nodes = [Sharing(slots / nodes, thrash) for _ in range(nodes)]
        self.next_end = math.inf

    @property
    def active(self) -> int:
        """Seats in use on all nodes."""
        return sum(node.active for node in self.nodes)

    @property
    def done(self) -> float:
        """Work done until the last event, in seat-seconds."""
        return sum(node.done for node in self.nodes)

    def done_by(self, now: float) -> float:
        """Work done by all nodes until now, in seat-seconds."""
        return sum(node.done_by(now) for node in self.nodes)

    def full_speed(self) -> float:
        """Seats that run at full speed, on nodes that do not stand still."""
        return sum(node.slots for node in self.nodes if node.speed > 0)

    def start(self, call: Call, now: float) -> None:
        """A query begins on the least used node, the first of several."""
        able = [index for index, node in enumerate(self.nodes) if node.speed > 0 and node.slots > 0]
        call.node = min(able or range(len(self.nodes)), key=lambda index: self._fill(self.nodes[index]))
        self.nodes[call.node].start(call, now)
        self._next()

    def stop(self, call: Call, now: float) -> None:
        """A query is cut short."""
        self.nodes[call.node].stop(call, now)
        self._next()

    def pop(self, now: float) -> Call:
        """The query that ends now."""
        call = min(self.nodes, key=lambda node: node.next_end).pop(now)
        self._next()
        return call

    def change(self, now: float, slots: float | None, speed: float | None, node: int | None = None) -> None:
        """One node changes (``slots`` are its own then), or all of them (``slots`` are those of all)."""
        if node is not None:
            self.nodes[node].change(now, slots, speed)
        else:
            for each in self.nodes:
                each.change(now, None if slots is None else slots / len(self.nodes), speed)
        self._next()

    def pressure(self) -> Pressure:
        """What the nodes tell together."""
        return Pressure(active=self.active)

    def _next(self) -> None:
        self.next_end = min(node.next_end for node in self.nodes)

    def _fill(self, node: Sharing) -> float:
        return node.active / node.slots if node.slots > 0 else math.inf
