"""No control, a plain queue, and a limit without a queue: what is written by hand, or comes with a library."""

from __future__ import annotations

from broker.policy.admission.events import Configuration
from broker.policy.admission.limit import StaticLimit
from broker.policy.admission.values import Queued, RefusalReason, Refused, Stage
from broker.simulation.rivals.base import RivalCore
from broker.simulation.rivals.line import Line, Waiter

UNLIMITED = 1_000_000
"""Seats that are never all taken."""


def no_control(configuration: Configuration) -> RivalCore:
    """Everybody runs at once."""
    return RivalCore(configuration, lambda _: StaticLimit(UNLIMITED))


def fifo(configuration: Configuration) -> RivalCore:
    """A semaphore of as many seats as the backend is set to, and a bounded queue before it, first come first served."""
    return RivalCore(configuration, lambda backend: StaticLimit(backend.limits.seats))


class Bare(RivalCore):
    """A limit that refuses whoever finds no free seat, as the limiters of concurrency-limits do by default."""

    def arrive(self, line: Line, waiter: Waiter, now: float) -> Queued | Refused:
        """Nobody waits."""
        return self.refuse(
            line, waiter, RefusalReason.OVERLOADED, Stage.ARRIVAL, "limit", line.policy.limit, now
        )
