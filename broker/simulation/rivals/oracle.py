"""A limit that is always as many seats as the database runs at full speed."""

from __future__ import annotations

from broker.policy.admission.events import RecordedBackend
from broker.policy.admission.limit import StaticLimit
from broker.simulation.rivals.truth import Truth

PERIOD = 0.1
"""Seconds between two looks behind the scenes."""


class OracleLimit(StaticLimit):
    """A :class:`LimitPolicy` that is told the truth."""

    def __init__(self, truth: Truth, backend: RecordedBackend) -> None:
        super().__init__(backend.limits.seats)
        self._truth = truth
        self._backend = backend.name
        self._next = 0.0

    def tick(self, waiting: bool, now: float) -> None:  # noqa: ARG002 - the interface
        """Looks again."""
        self._next = now + PERIOD
        self.limit = self.wished = max(1, int(self._truth.slots(self._backend, now)))

    def next_tick(self) -> float | None:
        """A tenth of a second after the last look; the first one is at once."""
        return self._next
