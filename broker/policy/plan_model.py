"""Seconds from the planner's estimate and the question's shape, learned from runs of which the estimate is known.

A ridge regression of the logarithm of seconds, drawn towards ``total_cost * SECONDS_PER_UNIT``. PostgreSQL's costs rank
plans of one question well and compare different questions badly: it counts a page read, a hash of a text, an addition
of decimals and a binary search in a time grid in nearly the same coin. The features let each cause have its own price.
The logarithm of the sum of priced causes, fitted beside, stands among them as one more feature.
"""

from __future__ import annotations

import math

from broker.domain.estimate import Estimate
from broker.policy.calibration import Guess
from broker.policy.regression import Ridge
from broker.policy.shape import Shape

SECONDS_PER_UNIT = 1e-5
"""What a unit of the planner's cost takes before anything is known: a page read in sequence from memory."""
UNTAUGHT_SPREAD = math.log(10.0) / 1.2816
"""Spread of an estimate that nothing has taught: a factor of ten to either side covers 80 %."""
TAUGHT = 40.0
"""Runs after which the model is trusted half."""
PENALTY = 1.0
ERROR_SHARE = 1.0 / 256.0
CLIP = 3.0
"""An error counts as at most so much, a factor of twenty: one absurd estimate must not undo what many have taught."""


def features(estimate: Estimate, shape: Shape) -> tuple[float, ...]:
    """What the regression sees; counts and costs as logarithms."""
    e, s, log = estimate, shape, math.log1p
    return (
        1.0,
        math.log(max(e.total_cost, 1e-3)) - 9.0,
        log(e.scan_cost),
        log(e.join_cost),
        log(e.sort_cost),
        log(e.group_cost),
        log(e.read_rows),
        log(e.joined_rows),
        log(e.sorted_rows),
        log(e.grouped_rows),
        log(e.rows),
        log(e.width),
        float(e.workers > 0),
        math.log(max(1, e.statements)),
        log(s.measures),
        float(s.sketched),
        float(s.exact),
        float(s.ordered),
        float(s.moments),
        float(s.decimals),
        float(s.dimensions),
        float(s.texts),
        log(s.buckets),
        log(s.conditions),
        float(s.tables),
        float(s.compared),
    )


SIZE = len(features(Estimate(1.0, 1, 1), Shape()))


class PlanModel:
    """Predicts from estimates; :meth:`observe` teaches it."""

    __slots__ = ("ridge", "variance")

    def __init__(self) -> None:
        self.ridge = Ridge(SIZE, PENALTY)
        self.variance = UNTAUGHT_SPREAD**2

    @property
    def trust(self) -> float:
        """0 before anything was learned, towards 1 with many runs."""
        return self.ridge.count / (self.ridge.count + TAUGHT)

    def guess(self, estimate: Estimate, shape: Shape) -> Guess:
        """Where a run will lie."""
        base = _base(estimate)
        centre = base + max(-2 * CLIP, min(2 * CLIP, self.ridge.predict(features(estimate, shape))))
        spread = math.sqrt(self.variance)
        return Guess(centre, spread, spread)

    def observe(self, estimate: Estimate, shape: Shape, seconds: float) -> None:
        """A run that nothing slowed down, and the estimate of it."""
        if estimate.total_cost <= 0.0 or seconds <= 0.0:
            return
        error = math.log(seconds) - self.guess(estimate, shape).centre
        error = max(-CLIP, min(CLIP, error))
        share = max(ERROR_SHARE, 1.0 / (self.ridge.count + 8.0))
        self.variance += share * (error * error - self.variance)
        self.ridge.add(features(estimate, shape), self._target(estimate, shape, error))

    def _target(self, estimate: Estimate, shape: Shape, error: float) -> float:
        return self.guess(estimate, shape).centre - _base(estimate) + error

    def merge(self, other: PlanModel) -> None:
        """Adds what another has learned."""
        mine, theirs = self.ridge.count, other.ridge.count
        if mine + theirs:
            self.variance = (self.variance * mine + other.variance * theirs) / (mine + theirs)
        self.ridge.merge(other.ridge)


def _base(estimate: Estimate) -> float:
    return math.log(max(estimate.total_cost, 1e-3) * SECONDS_PER_UNIT)
