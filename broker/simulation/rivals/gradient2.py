"""The limit of Netflix's Gradient2Limit behind its WindowedLimit, as its documentation puts them, with their defaults.

Source: github.com/Netflix/concurrency-limits, the rule and the constants. The least limit is 1 instead of 20.
"""

from __future__ import annotations

from broker.simulation.rivals.sampled import SampledLimit

MOST = 200
ALLOWANCE = 4
SMOOTHING = 0.2
TOLERANCE = 1.5
LONG, WARMUP = 600, 10
"""Windows in the long-term mean, and the first of them that count alike."""
WINDOW, LEAST_SAMPLES, LEAST_SECONDS = 1.0, 10, 100e-6


class Gradient2(SampledLimit):
    """Follows the ratio of the long-term time to the present one, and always allows for some queuing."""

    def __init__(self) -> None:
        super().__init__(MOST)
        self._long = 0.0
        self._windows = 0
        self._until = 0.0
        self._clear()

    def _clear(self) -> None:
        self._count, self._sum, self._in_flight = 0, 0.0, 0

    def update(self, seconds: float, in_flight: int, dropped: bool, now: float) -> float:  # noqa: ARG002 - blind to drops
        """Gathers a second of samples; a window of fewer than ten is thrown away."""
        if seconds < LEAST_SECONDS:
            return self.estimate
        self._count += 1
        self._sum += seconds
        self._in_flight = max(self._in_flight, in_flight)
        if now <= self._until:
            return self.estimate
        self._until = now + WINDOW
        estimate = self.estimate
        if self._count >= LEAST_SAMPLES:
            estimate = self._decide(self._sum / self._count, self._in_flight)
        self._clear()
        return estimate

    def _decide(self, short: float, in_flight: int) -> float:
        self._windows += 1
        if self._windows <= WARMUP:
            self._long += (short - self._long) / self._windows
        else:
            self._long += (short - self._long) * 2.0 / (LONG + 1)
        if self._long > 2.0 * short:  # the load has gone: forget it faster than the mean would
            self._long *= 0.95
        if in_flight < self.estimate / 2:
            return self.estimate
        gradient = max(0.5, min(1.0, TOLERANCE * self._long / short))
        return (1 - SMOOTHING) * self.estimate + SMOOTHING * (self.estimate * gradient + ALLOWANCE)
