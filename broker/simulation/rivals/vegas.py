"""The limit of Netflix's VegasLimit, after TCP Vegas, with its defaults.

Source: github.com/Netflix/concurrency-limits, the rule and the constants; Brakmo and Peterson, TCP Vegas, 1995.
"""

from __future__ import annotations

import math
from random import Random

from broker.simulation.rivals.sampled import SampledLimit

MOST = 1000
PROBE = 30
"""The best time is measured anew every so many times the limit of samples."""


class Vegas(SampledLimit):
    """Guesses from the best time seen how many of the queries in flight only queue, and keeps that number small."""

    def __init__(self, seed: int) -> None:
        super().__init__(MOST)
        self._random = Random(seed)  # noqa: S311 - jitter, not a secret
        self._best = math.inf
        self._samples = 0
        self._jitter = self._random.uniform(0.5, 1.0)

    def update(self, seconds: float, in_flight: int, dropped: bool, now: float) -> float:  # noqa: ARG002 - timeless
        """Up by six steps while next to nothing queues, by one while little does, down by one when much does."""
        self._samples += 1
        if self._samples >= self._jitter * PROBE * self.estimate:
            self._jitter = self._random.uniform(0.5, 1.0)
            self._samples = 0
            self._best = seconds
            return self.estimate
        if seconds < self._best:
            self._best = seconds
            return self.estimate
        step = max(1, int(math.log10(max(1, self.limit))))
        if dropped:
            return self.estimate - step
        if in_flight * 2 < self.estimate:
            return self.estimate
        queued = math.ceil(self.estimate * (1.0 - self._best / seconds))
        if queued <= step:
            return self.estimate + 6 * step
        if queued < 3 * step:
            return self.estimate + step
        return self.estimate - step if queued > 6 * step else self.estimate
