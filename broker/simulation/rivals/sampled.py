"""What the limiters of Netflix's concurrency-limits have in common: one sample per query that ended.

A sample is the time that the query took, the seats that were in use when it began (with its own), and whether it was
cut short by its deadline. The limit starts at 20; the least is 1 here instead of 20, because databases may be smaller.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from broker.policy.admission.limit import StaticLimit
from broker.policy.admission.values import Outcome

INITIAL = 20


class SampledLimit(StaticLimit, ABC):
    """A :class:`LimitPolicy` that changes its mind at samples only. Subclasses give :meth:`update`."""

    def __init__(self, most: int) -> None:
        super().__init__(INITIAL)
        self.estimate = float(INITIAL)
        self._most = most
        self._used = 0
        self._begun: dict[str, tuple[int, int]] = {}
        self._changed: float | None = None

    @abstractmethod
    def update(self, seconds: float, in_flight: int, dropped: bool, now: float) -> float:
        """The new estimate after a sample; it is brought between 1 and the most."""

    def started(self, id: str, predicted: float, seats: int, now: float) -> None:  # noqa: ARG002 - blind to predictions
        """Remembers how many seats are in use."""
        self._used += seats
        self._begun[id] = seats, self._used

    def ended(self, id: str, outcome: Outcome, seconds: float, now: float) -> None:
        """Takes a sample, unless the query is none."""
        seats, in_flight = self._begun.pop(id)
        self._used -= seats
        if outcome is not Outcome.IGNORED and seconds > 0:
            estimate = self.update(seconds, in_flight, outcome is Outcome.DROPPED, now)
            self.estimate = max(1.0, min(self._most, estimate))
            if int(self.estimate) != self.limit:
                self.limit = self.wished = int(self.estimate)
                self._changed = now

    def tick(self, waiting: bool, now: float) -> None:  # noqa: ARG002 - the interface
        """The core has taken note of the new limit."""
        self._changed = None

    def next_tick(self) -> float | None:
        """At once after a change."""
        return self._changed
