"""Which model a database of a scenario is, and how much it could do in any span of time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from broker.policy.admission.values import Pressure
from broker.simulation.backends.convoy import Convoy
from broker.simulation.backends.replicas import Replicas
from broker.simulation.backends.sharing import Sharing
from broker.simulation.backends.slots import Slots
from broker.simulation.backends.spill import Spill
from broker.simulation.call import Call
from broker.simulation.scenario import Database, Model, Step


class Backend(Protocol):
    """A model. ``next_end`` is when its next query ends if nothing changes, ``math.inf`` when none does."""

    next_end: float

    @property
    def active(self) -> int:
        """Seats in use."""
        ...

    @property
    def done(self) -> float:
        """Work done until the last event, in seat-seconds."""
        ...

    def done_by(self, now: float) -> float:
        """Work done until now, in seat-seconds."""
        ...

    def full_speed(self) -> float:
        """Seats that run at full speed."""
        ...

    def start(self, call: Call, now: float) -> None:
        """A query begins."""
        ...

    def stop(self, call: Call, now: float) -> None:
        """A query is cut short."""
        ...

    def pop(self, now: float) -> Call:
        """The query that ends at ``next_end``, which is now."""
        ...

    def change(self, now: float, slots: float | None, speed: float | None, node: int | None = None) -> None:
        """Other slots, or another speed, from now on."""
        ...

    def pressure(self) -> Pressure:
        """What the database tells when it is asked."""
        ...


def build(database: Database) -> Backend:
    """The model of a database, idle."""
    match database.model:
        case Model.SHARING:
            return Sharing(database.slots, database.thrash)
        case Model.SLOTS:
            return Slots(database.slots)
        case Model.SPILL:
            return Spill(database.slots, database.thrash, database.memory, database.spill)
        case Model.CONVOY:
            return Convoy(database.slots, database.thrash, database.serial, database.handover)
        case Model.REPLICAS:
            return Replicas(database.slots, database.thrash, database.nodes)


def capacity(database: Database, steps: Iterable[Step], begin: float, end: float) -> float:
    """Seat-seconds that the database could do at best between two instants."""
    nodes = database.nodes if database.model is Model.REPLICAS else 1
    slots, speed = [database.slots / nodes] * nodes, [1.0] * nodes
    total, at = 0.0, begin
    for step in sorted((s for s in steps if s.database == database.name and s.at < end), key=lambda s: s.at):
        until = max(at, step.at)
        total += (until - at) * _most(database, slots, speed)
        at = until
        for index in range(nodes) if step.node is None else (step.node,):
            if step.slots is not None:
                slots[index] = step.slots if step.node is not None else step.slots / nodes
            if step.speed is not None:
                speed[index] = step.speed
    return total + (end - at) * _most(database, slots, speed)


def _most(database: Database, slots: list[float], speed: list[float]) -> float:
    most = sum(s * v for s, v in zip(slots, speed, strict=True))
    return min(most, speed[0] / database.serial) if database.model is Model.CONVOY else most
