"""Random numbers, the same on every version of Python: only ``Random.random`` is, so the rest is built on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

from broker.policy.admission.values import Quantiles
from broker.simulation.scenario import Predictor, Predicts, Work

Z90 = 1.2815515655446004
"""The 90 % point of the normal distribution."""


class Draws:
    """A stream of random numbers of its own; streams of different names do not depend on each other.

    ``uniform`` gives numbers in [0, 1), ``normal`` standard normal ones.
    """

    def __init__(self, seed: int, name: str) -> None:
        self.uniform = Random(f"{seed}/{name}").random  # noqa: S311 - a simulation, not a secret
        self.normal: Callable[[], float] = _normals(self.uniform).__next__

    def exponential(self, mean: float) -> float:
        """An exponential number."""
        return -mean * math.log(1.0 - self.uniform())


def _normals(uniform: Callable[[], float]) -> Iterator[float]:
    """Pairs by the method of Box and Muller."""
    log, sqrt, cos, sin, tau = math.log, math.sqrt, math.cos, math.sin, math.tau
    while True:
        radius, angle = sqrt(-2.0 * log(1.0 - uniform())), tau * uniform()
        yield radius * cos(angle)
        yield radius * sin(angle)


class Sizes:
    """Draws queries of one kind: the true work, and what the broker predicts of it.

    A calibrated prediction is drawn first and the truth around it, so that it stays right among queries selected by
    it. The other way round, those predicted cheapest are the most underestimated, and admission selects them.
    """

    def __init__(self, work: Work, predictor: Predictor, draws: Draws, size: float = 1.0) -> None:
        self._normal = draws.normal
        self._location = math.log(work.median * size)
        self._noisy = predictor.kind is Predicts.NOISY
        error = work.sigma if predictor.kind is Predicts.ABSENT else predictor.sigma
        if not self._noisy:
            error = min(error, work.sigma)  # the class median is as bad as a calibrated prediction can be
        self._known = work.sigma if self._noisy else math.sqrt(work.sigma**2 - error**2)
        self._error = error
        self._bias = math.log(predictor.bias)
        self._low, self._high = math.exp(-Z90 * error), math.exp(Z90 * error)
        self._same: Quantiles | None = None
        if self._known == 0:
            self._same = self._quantiles(self._location)

    def _quantiles(self, location: float) -> Quantiles:
        median = math.exp(location + self._bias)
        return Quantiles(median * self._low, median, median * self._high)

    def draw(self) -> tuple[float, Quantiles]:
        """Work in seconds, and its prediction."""
        if self._same is not None:
            return math.exp(self._location + self._error * self._normal()), self._same
        location = self._location + self._known * self._normal()
        if self._error == 0:
            return math.exp(location), self._quantiles(location)
        other = location + self._error * self._normal()
        if self._noisy:
            return math.exp(location), self._quantiles(other)
        return math.exp(other), self._quantiles(location)
