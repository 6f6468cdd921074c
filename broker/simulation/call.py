"""One attempt of one request, as the engine moves it from arrival to its end."""

from __future__ import annotations

from broker.policy.admission.values import Quantiles

NEW, QUEUED, RUNNING, ORPHAN, ENDED = range(5)
"""States. An orphan runs on although its client has left."""


class Call:
    """Mutable on purpose: a run makes millions of them. ``row`` is where the tenant's useful work is booked.

    ``ends`` belongs to the model of the database that runs it.
    """

    __slots__ = (
        "arrived", "attempt", "broker", "deadline", "ends", "group", "id", "leaves", "left", "memory", "node", "number",
        "offered", "predicted", "row", "seats", "source", "started", "state", "tenant", "work",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - millions of them: names would cost time
        self,
        number: int,
        source: int,
        tenant: str,
        row: list[float],
        work: float,
        seats: int,
        memory: int,
        predicted: Quantiles,
        offered: float,
        deadline: float,
    ) -> None:
        self.number = number
        self.id = str(number)
        self.source = source
        self.tenant = tenant
        self.row = row
        self.work = work
        self.seats = seats
        self.memory = memory
        self.predicted = predicted
        self.arrived = self.offered = offered
        self.deadline = self.leaves = deadline
        self.attempt = 0
        self.broker = 0
        self.group = ""
        self.state = NEW
        self.started = self.left = 0.0
        self.ends = -1.0
        self.node = 0

    def again(self, number: int, now: float, deadline: float) -> Call:
        """The next attempt of the same request."""
        call = Call(
            number,
            self.source,
            self.tenant,
            self.row,
            self.work,
            self.seats,
            self.memory,
            self.predicted,
            now,
            deadline,
        )
        call.arrived = self.arrived
        call.attempt = self.attempt + 1
        call.group = self.group
        return call
