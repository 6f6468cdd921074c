"""What the core remembers of a request from its arrival to its end, and of the tenant that it belongs to."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING

from broker.policy.admission.values import AdmissionRequest

if TYPE_CHECKING:
    from broker.policy.admission.fair_queue import FairQueue

Rank = tuple[int, float, int]
"""Order of the requests of one tenant and criticality: later attempts behind first ones, then the latest start, then
arrival."""

PESSIMISM_ABOVE = 1.0
"""Mean error of predictions, as a logarithm, above which a tenant is charged the 90th percentile in advance."""
LEARNING_RATE = 0.1


class Flow:
    """The requests of one tenant that wait in a queue, in the tenant's own order, and what the tenant has had.

    ``work`` is the predicted work of all that wait, ``mean`` that of one of them. ``waiters`` are sorted by rank;
    no two ranks are equal, so comparing pairs, or a pair with a rank alone in a tuple, never comes to an entry.
    """

    __slots__ = (
        "error", "mean", "name", "order", "pessimistic", "queue", "seats_used", "start", "waiters", "weight",
        "work",
    )  # fmt: skip

    def __init__(self, name: str, weight: float, queue: FairQueue) -> None:
        self.name = name
        self.queue = queue
        self.weight = weight
        self.start = queue.virtual
        self.order = 0
        self.waiters: list[tuple[Rank, Entry]] = []
        self.work = 0.0
        self.mean = 0.0
        self.seats_used = 0
        self.error = 0.0
        self.pessimistic = False
        """Whether predictions have been so wrong that the high one is charged (2DFQ's pessimism)."""

    def work_before(self, rank: Rank) -> float:
        """Predicted work of this flow that goes before a request of the given rank."""
        return sum([entry.work for _, entry in self.waiters[: bisect_left(self.waiters, (rank,))]])

    def learn(self, predicted: float, actual: float) -> None:
        """Remembers how wrong predictions for the tenant are."""
        if predicted > 0.0 and actual > 0.0:
            self.error += LEARNING_RATE * (abs(math.log(actual / predicted)) - self.error)
            self.pessimistic = self.error > PESSIMISM_ABOVE


class Entry:
    """A request with what was decided about it. State, not a value: it waits, runs, and ends.

    ``since`` is when it began to wait, or else to run; it is ``waiting`` while it stands in a queue. ``expected`` is
    the wait in seconds that was told. Its pool predicts the rest (:meth:`Pool.size`): ``cost`` is the work in
    seat-seconds that its tenant is charged when it starts, ``work`` the same without pessimism, for estimates, of
    ``width`` seats; ``p90`` is the duration that lending reckons with.
    """

    __slots__ = (
        "cost", "expected", "flow", "killed", "memory", "p90", "rank", "request", "seats", "since", "until",
        "waiting", "width", "work",
    )  # fmt: skip

    width: float
    work: float
    cost: float
    p90: float

    def __init__(self, request: AdmissionRequest, flow: Flow, rank: Rank, now: float) -> None:
        self.request = request
        self.flow = flow
        self.rank = rank
        self.since = now
        self.until = now
        self.expected = 0.0
        self.seats = 1
        self.memory = request.memory
        self.waiting = self.killed = False
