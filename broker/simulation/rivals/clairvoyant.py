"""A scheduler that knows the true work of every query and the true capacity: what others are measured against.

It starts the feasible query with the least slack first and refuses a query the moment that it has become infeasible.
With work that cannot be interrupted no order is best for every load (that is NP-hard), so this is a strong yardstick,
not a proven bound.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

from broker.policy.admission.events import Configuration
from broker.policy.admission.values import Queued, RefusalReason, Refused, Stage
from broker.simulation.rivals.base import RivalCore
from broker.simulation.rivals.line import Line, Waiter
from broker.simulation.rivals.oracle import OracleLimit
from broker.simulation.rivals.truth import Truth

MARGIN = 1.02
"""Of the true work: a query that starts at its very last instant misses its deadline by the slightest delay."""


class Clairvoyant(RivalCore):
    """Least slack first, among those that can still make it."""

    def __init__(self, configuration: Configuration, truth: Truth) -> None:
        super().__init__(configuration, lambda backend: OracleLimit(truth, backend))
        self._truth = truth
        self._slack: dict[str, list[tuple[float, int, Waiter]]] = {line.name: [] for line in self._lines}
        self._arrivals = 0

    def _latest(self, waiter: Waiter) -> float:
        """The last instant at which a query may start."""
        return waiter.request.deadline_at - MARGIN * self._truth.work(waiter.request.id)

    def screen(self, line: Line, waiter: Waiter, now: float) -> Refused | None:
        """Whoever cannot make it is told so."""
        if self._latest(waiter) >= now:
            return None
        left = waiter.request.deadline_at - now
        return self.refuse(
            line, waiter, RefusalReason.DEADLINE_TOO_SHORT, Stage.ARRIVAL, "deadline", left, now
        )

    def arrive(self, line: Line, waiter: Waiter, now: float) -> Queued | Refused:  # noqa: ARG002 - the queue has no bound
        """Waits while it could still make it."""
        self._arrivals += 1
        heapq.heappush(self._slack[line.name], (self._latest(waiter), self._arrivals, waiter))
        return self.queue(line, waiter)

    def _first(self, line: Line) -> tuple[float, Waiter] | None:
        heap = self._slack[line.name]
        while heap and line.waiting.get(heap[0][2].request.id) is not heap[0][2]:
            heapq.heappop(heap)
        return (heap[0][0], heap[0][2]) if heap else None

    def choose(self, line: Line, now: float) -> Waiter | None:
        """The one with the least slack; :meth:`expired` has removed those without any."""
        first = self._first(line)
        return None if first is None or first[0] < now else first[1]

    def expired(self, line: Line, now: float) -> Iterable[Waiter]:
        """Those whose last instant to start has passed."""
        heap = self._slack[line.name]
        while (first := self._first(line)) is not None and first[0] < now:
            yield heapq.heappop(heap)[2]

    def due(self, line: Line) -> float | None:
        """Just after the last instant of the first."""
        first = self._first(line)
        return None if first is None or first[0] == math.inf else math.nextafter(first[0], math.inf)
