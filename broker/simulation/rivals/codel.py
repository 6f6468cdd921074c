"""CoDel with adaptive LIFO, as Facebook described it, its times scaled to the deadline of each request.

While the queue has been empty of late, requests wait up to N, the oldest first. When it has not been empty for N, they
wait up to M only, and the newest goes first: it has the best chance. Facebook's N of 100 ms and M of 5 ms suit requests
of milliseconds; here N is half of the time that the caller allows, and M a twentieth of N.
Source: Ben Maurer, Fail at Scale, ACM Queue 13(8), 2015.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from broker.policy.admission.events import Configuration
from broker.policy.admission.limit import StaticLimit
from broker.policy.admission.values import Queued, Refused
from broker.simulation.rivals.base import RivalCore
from broker.simulation.rivals.line import Line, Waiter

PATIENCE, RATIO = 0.5, 20.0
UNBOUNDED = 30.0
"""Seconds that a caller without a deadline is taken to allow."""


def standing(waiter: Waiter) -> float:
    """N: how long this request may wait in a queue that comes and goes."""
    allowed = waiter.request.deadline_at - waiter.since
    return PATIENCE * (allowed if allowed < math.inf else UNBOUNDED)


class Codel(RivalCore):
    """A fixed limit behind a queue whose order and patience depend on how long it has stood."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration, lambda backend: StaticLimit(backend.limits.seats))
        self._empty_at: dict[str, float] = {}

    def arrive(self, line: Line, waiter: Waiter, now: float) -> Queued | Refused:
        """A queue that was empty begins to stand now."""
        if not line.waiting:
            self._empty_at[line.name] = now
        return super().arrive(line, waiter, now)

    def _stands(self, line: Line, waiter: Waiter, now: float) -> bool:
        return now >= self._empty_at[line.name] + standing(waiter)

    def choose(self, line: Line, now: float) -> Waiter | None:
        """The oldest, or the newest when the queue stands."""
        if not line.waiting:
            return None
        oldest = next(iter(line.waiting.values()))
        return next(reversed(line.waiting.values())) if self._stands(line, oldest, now) else oldest

    def _leaves(self, line: Line, waiter: Waiter) -> float:
        """When a request has waited too long, as things stand: after N, or after M once the queue has stood for N."""
        n = standing(waiter)
        return min(waiter.since + n, max(self._empty_at[line.name] + n, waiter.since + n / RATIO))

    def expired(self, line: Line, now: float) -> Iterable[Waiter]:
        """The oldest ones, for whom the time is up."""
        for waiter in line.waiting.values():
            if self._leaves(line, waiter) > now:
                break
            yield waiter

    def due(self, line: Line) -> float | None:
        """When the time of the oldest is up."""
        if not line.waiting:
            return None
        return self._leaves(line, next(iter(line.waiting.values())))
