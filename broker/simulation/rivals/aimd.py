"""The limit of Netflix's AIMDLimit, with its defaults: one more after a success, a tenth less after a drop.

Source: github.com/Netflix/concurrency-limits, the rule and the constants. The least limit is 1 instead of 20.
"""

from __future__ import annotations

from broker.simulation.rivals.sampled import SampledLimit

MOST = 200
BACKOFF = 0.9
TIMEOUT = 5.0
"""Seconds; a query that took longer counts as dropped."""


class Aimd(SampledLimit):
    """Additive increase, multiplicative decrease."""

    def __init__(self) -> None:
        super().__init__(MOST)

    def update(self, seconds: float, in_flight: int, dropped: bool, now: float) -> float:  # noqa: ARG002 - timeless
        """Down on a drop, up when at least half of the limit is in use."""
        if dropped or seconds > TIMEOUT:
            return int(self.estimate * BACKOFF)
        return self.estimate + 1 if in_flight * 2 >= self.estimate else self.estimate
