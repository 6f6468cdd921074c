"""Seconds from the planner's estimate and the question's shape, learned from runs of which the estimate is known.

PostgreSQL's costs rank plans of one question well and compare different questions badly: a page read, the hash of a
text, an addition of decimals and a binary search in a time grid count nearly the same, and for a condition on an
expression it guesses how many rows pass. So there are two models, both small enough for plain Python:

- *prices*: the time is a sum of causes (cost units read, rows grouped times measures, rows of the result), each at a
  price that is never negative. Prices are learned one run at a time by the normalised least-mean-squares rule (Widrow
  and Hoff; here on the logarithm of time and of prices);
- a *ridge regression* of the logarithm of time on logarithms of the same quantities and of the priced sum, drawn
  towards ``total_cost * SECONDS_PER_UNIT``, which is all that is known before the first run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from broker.domain.estimate import Estimate
from broker.policy.calibration import NORMAL, Guess
from broker.policy.regression import Ridge
from broker.policy.shape import Shape

SECONDS_PER_UNIT = 1e-5
"""What a unit of the planner's cost takes before anything is known: a page read in sequence from memory."""
UNTAUGHT_SPREAD = math.log(10.0) / NORMAL
"""Spread of an estimate that nothing has taught: a factor of ten to either side covers 80 %."""
TAUGHT = 40.0
"""Runs after which the model is trusted half."""
PENALTY = 0.3
RATE, DAMPING = 0.05, 0.02
ERROR_SHARE = 1.0 / 256.0
CLIP = 3.0
"""An error counts as at most so much, a factor of twenty: one absurd run must not undo what many have taught."""
FIRST_PRICES = (
    *(3e-4, 3e-4),  # seconds for a question, for a statement
    *(3e-6, 3e-6, 3e-6, 3e-6),  # for a unit of cost
    *(1e-8, 1e-8, 3e-8, 3e-8),  # for a row read, joined, sorted
    *(1e-8, 1e-8, 3e-8, 5e-8, 5e-8, 5e-8, 3e-8),  # for a row grouped, and its measures
    *(3e-8, 1e-8, 3e-8, 3e-8),  # for its bucket and its keys
    *(5e-8, 1e-9),  # for a row of the result and a byte of it
    *(1e-7, 1e-7, 1e-7),  # for a row sorted by text, for exact measures, for ordered ones
)


def causes(estimate: Estimate, shape: Shape) -> tuple[float, ...]:
    """What takes time, in the order of ``FIRST_PRICES``."""
    e, s = estimate, shape
    grouped, ordered = e.grouped_rows, e.sorted_rows
    return (
        *(1.0, float(e.statements)),
        *(e.scan_cost, e.join_cost, e.sort_cost, e.group_cost),
        *(
            e.read_rows,
            e.read_rows * math.log1p(s.conditions),
            e.joined_rows,
            ordered * math.log2(2 + ordered) / 10,
        ),
        *(grouped, grouped * s.measures, grouped * s.sketched, grouped * s.exact, grouped * s.decimals),
        *(grouped * s.ordered, grouped * s.moments),
        *(grouped * (s.buckets > 0), grouped * math.log2(1 + s.buckets)),
        *(grouped * s.dimensions, grouped * s.texts),
        *(float(e.rows), float(e.rows * e.width)),
        *(ordered * s.texts, ordered * s.exact, ordered * s.ordered),
    )


def features(estimate: Estimate, shape: Shape, priced: float) -> tuple[float, ...]:
    """What the regression sees; counts and costs as logarithms. ``priced`` is the logarithm of the sum of causes."""
    e, s, log = estimate, shape, math.log1p
    days, parallel, grouped = log(s.days), float(e.workers > 0), log(e.grouped_rows)
    return (
        *(1.0, priced + 4.0, math.log(max(e.total_cost, 1e-3)) - 9.0),
        *(log(e.scan_cost), log(e.join_cost), log(e.sort_cost), log(e.group_cost)),
        *(log(e.read_rows), log(e.joined_rows), log(e.sorted_rows), grouped, log(e.rows), log(e.width)),
        *(parallel, math.log(max(1, e.statements)), log(s.measures)),
        *(float(s.sketched), float(s.exact), float(s.ordered), float(s.moments), float(s.decimals)),
        *(log(s.buckets), float(s.dimensions), float(s.texts), log(s.conditions), float(s.tables)),
        *(float(s.compared), float(s.pushed), float(s.having)),
        *(float(s.ranged), days, float(s.blind), days * s.blind, float(s.guessed)),
        # What the one is worth depends on the other.
        *(parallel * grouped / 10, parallel * days * s.blind / 5, grouped * log(e.group_cost) / 10),
        *(log(s.buckets) ** 2 / 5, log(e.sorted_rows) * days * s.blind / 10),
    )


SIZE = len(features(Estimate(1.0, 1, 1), Shape(), 0.0))


class PlanModel:
    """Predicts from estimates; :meth:`observe` teaches it."""

    __slots__ = ("prices", "ridge", "variance")

    def __init__(self) -> None:
        self.prices = [math.log(price) for price in FIRST_PRICES]
        self.ridge = Ridge(SIZE, PENALTY)
        self.variance = UNTAUGHT_SPREAD**2

    @property
    def trust(self) -> float:
        """0 before anything was learned, towards 1 with many runs."""
        return self.ridge.count / (self.ridge.count + TAUGHT)

    def guess(self, estimate: Estimate, shape: Shape) -> Guess:
        """Where a run will lie."""
        x = features(estimate, shape, math.log(sum(self._priced(causes(estimate, shape)))))
        spread = math.sqrt(self.variance)
        return Guess(self._centre(estimate, x), spread, spread)

    def observe(self, estimate: Estimate, shape: Shape, seconds: float) -> None:
        """A run that nothing slowed down, and the estimate of it."""
        if estimate.total_cost <= 0.0 or seconds <= 0.0:
            return
        parts = self._priced(causes(estimate, shape))
        whole, taken = sum(parts), math.log(seconds)
        x = features(estimate, shape, math.log(whole))
        centre = self._centre(estimate, x)
        error = _clipped(taken - centre)
        share = max(ERROR_SHARE, 1.0 / (self.ridge.count + 8.0))
        self.variance += share * (error * error - self.variance)
        self.ridge.add(x, centre + error - _base(estimate))
        self._reprice([part / whole for part in parts], max(-1.0, min(1.0, taken - math.log(whole))))

    def merge(self, other: PlanModel) -> None:
        """Adds what another has learned."""
        mine, theirs = self.ridge.count, other.ridge.count
        if not theirs:
            return
        share = theirs / (mine + theirs)
        self.variance += share * (other.variance - self.variance)
        self.prices = [a + share * (b - a) for a, b in zip(self.prices, other.prices, strict=True)]
        self.ridge.merge(other.ridge)

    def _centre(self, estimate: Estimate, x: Sequence[float]) -> float:
        moved = self.ridge.predict(x)
        return _base(estimate) + max(-3 * CLIP, min(3 * CLIP, moved))

    def _priced(self, amounts: Sequence[float]) -> list[float]:
        return [math.exp(price) * amount for price, amount in zip(self.prices, amounts, strict=True)]

    def _reprice(self, shares: Sequence[float], error: float) -> None:
        step = RATE * error / (sum(s * s for s in shares) + DAMPING)
        self.prices = [price + step * s for price, s in zip(self.prices, shares, strict=True)]


def _base(estimate: Estimate) -> float:
    return math.log(max(estimate.total_cost, 1e-3) * SECONDS_PER_UNIT)


def _clipped(error: float) -> float:
    return max(-CLIP, min(CLIP, error))
