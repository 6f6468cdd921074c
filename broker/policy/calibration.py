"""Keeps predictions honest: what was predicted against what was seen, bucket by bucket, and predictions mended by it.

A prediction is a centre and a spread of the logarithm of seconds. For every bucket of the centre, a factor of four
wide, a sketch holds how much longer than the centre runs took. Its median, made monotone over the buckets by pooling
neighbours that violate it (isotonic regression), moves the centre; what is left, measured in spreads, gives the tenth
and the ninetieth percentile. A bucket with few samples leans on the prediction as it was. Admission favours work that
is predicted too cheap; learning from what was admitted, by what was predicted of it, is what undoes that bias.

Coverage counts how often runs stayed below each calibrated quantile; its distance from the level is the calibration
error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from broker.policy.admission.values import Quantiles
from broker.policy.sketch import Sketch

LEVELS = (0.1, 0.5, 0.9)
NORMAL = 1.2816
"""Spreads from the median to the tenth and to the ninetieth percentile, where nothing is known."""
WIDTH = math.log(4.0)
TAIL = 0.5
"""What is left over is sketched with this exponent, which makes bins half as fine and lets them reach twice as far."""
LEAN = 12.0
"""Samples that the prediction as it was counts for, in every bucket."""
FARTHEST = 12.0
"""Of what was seen or is told, the longest distance of logarithms from a centre: a factor of 160,000."""
LONGEST = 26.0
"""The greatest logarithm of seconds that is told: 6,000 years, of the 10,000 that a message can hold."""
MEMORY = 256.0
SHARE = 1.0 / 200.0
"""Weight of a run in the coverage."""


@dataclass(frozen=True, slots=True)
class Guess:
    """The logarithm of seconds: its centre, and the spread to either side, both above 0."""

    centre: float
    low: float
    high: float


class Calibration:
    """One for every basis that predictions rest on."""

    __slots__ = ("_moves", "centres", "count", "coverage", "tails")

    def __init__(self) -> None:
        self.centres: dict[int, Sketch] = {}
        self.tails: dict[int, Sketch] = {}
        self.coverage = list(LEVELS)
        self.count = 0
        self._moves: list[float] = []  # of all buckets of centres, until these learn more

    def quantiles(self, guess: Guess) -> Quantiles:
        """The calibrated quantiles, in order."""
        centre = guess.centre + self._moved(guess.centre)
        tail = self.tails.get(bucket(guess.centre))
        weight = tail.total if tail is not None else 0.0
        own = weight / (weight + LEAN)
        below = above = NORMAL
        if tail is not None and weight:
            low, high = (math.log(tail.quantile(level)) / TAIL for level in (LEVELS[0], LEVELS[2]))
            below = own * max(0.0, -low) + (1.0 - own) * NORMAL
            above = own * max(0.0, high) + (1.0 - own) * NORMAL
        # Narrow guesses that missed are many spreads off, which of a wide one of the same bucket would be ages.
        least, most = centre - min(FARTHEST, below * guess.low), centre + min(FARTHEST, above * guess.high)
        return Quantiles(_seconds(least), _seconds(centre), _seconds(most))

    def observe(self, guess: Guess, seconds: float) -> None:
        """A run to its end, of which this was the guess."""
        quantiles = self.quantiles(guess)
        bounds = (quantiles.p10, quantiles.p50, quantiles.p90)
        self.count += 1
        step = max(SHARE, 1.0 / self.count) if self.count < 1.0 / SHARE else SHARE
        for i, bound in enumerate(bounds):
            self.coverage[i] += step * (float(seconds <= bound) - self.coverage[i])
        at, off = bucket(guess.centre), math.log(seconds) - guess.centre
        self.centres.setdefault(at, Sketch(MEMORY)).add(_bounded(off))
        self._moves = []
        self.tails.setdefault(at, Sketch(MEMORY)).add(_bounded(TAIL * self._tail(guess, math.log(seconds))))

    def observe_above(self, guess: Guess, seconds: float) -> None:
        """A run that was cut short after so long, which tells nothing unless it was longer than expected."""
        at, off = bucket(guess.centre), math.log(seconds) - guess.centre
        if off <= self._moved(guess.centre):
            return
        self.centres.setdefault(at, Sketch(MEMORY)).add_above(_bounded(off))
        self._moves = []
        self.tails.setdefault(at, Sketch(MEMORY)).add_above(
            _bounded(TAIL * self._tail(guess, math.log(seconds)))
        )

    @property
    def error(self) -> float:
        """Mean distance of the coverage from the levels, 0 to 1."""
        return sum(abs(c - level) for c, level in zip(self.coverage, LEVELS, strict=True)) / len(LEVELS)

    def merge(self, other: Calibration) -> None:
        """Adds what another has seen."""
        for mine, theirs in ((self.centres, other.centres), (self.tails, other.tails)):
            for at, sketch in theirs.items():
                mine.setdefault(at, Sketch(MEMORY)).merge(sketch)
        self._moves = []
        whole = self.count + other.count
        if whole:
            self.coverage = [
                (a * self.count + b * other.count) / whole
                for a, b in zip(self.coverage, other.coverage, strict=True)
            ]
        self.count = whole

    def _tail(self, guess: Guess, seconds: float) -> float:
        rest = seconds - guess.centre - self._moved(guess.centre)
        return rest / (guess.high if rest > 0.0 else guess.low)

    def _moved(self, centre: float) -> float:
        """How far the centre moves: between the middles of two buckets in proportion, beyond them as at the last."""
        if not self.centres:
            return 0.0
        first, last = min(self.centres), max(self.centres)
        at = centre / WIDTH
        if not self._moves:
            self._moves = self._knots(first, last)
        knots = self._moves
        place = min(max(at - first, 0.0), float(last - first))
        low = min(int(place), last - first)
        high = min(low + 1, last - first)
        return knots[low] + (place - low) * (knots[high] - knots[low])

    def _knots(self, first: int, last: int) -> list[float]:
        """The moves at the middles of all buckets, such that moved centres never change places."""
        levels: list[tuple[float, float, int]] = []  # mean of the moved middles, weight, buckets pooled
        for b in range(first, last + 1):
            sketch = self.centres.get(b)
            weight = sketch.total if sketch is not None else 0.0
            off = 0.0
            if sketch is not None and weight:
                off = math.log(sketch.quantile(0.5)) * weight / (weight + LEAN)
            levels.append((b * WIDTH + off, weight + 1.0, 1))
            while len(levels) > 1 and levels[-2][0] > levels[-1][0]:
                (m1, w1, n1), (m2, w2, n2) = levels[-2:]
                levels[-2:] = [((m1 * w1 + m2 * w2) / (w1 + w2), w1 + w2, n1 + n2)]
        moved = [mean for mean, _, pooled in levels for _ in range(pooled)]
        return [mean - (first + i) * WIDTH for i, mean in enumerate(moved)]


def bucket(centre: float) -> int:
    """The bucket of a centre; middles of buckets are multiples of the width."""
    return round(centre / WIDTH)


def _bounded(off: float) -> float:
    return math.exp(min(FARTHEST, max(-FARTHEST, off)))


def _seconds(logarithm: float) -> float:
    return math.exp(min(LONGEST, logarithm))


def worst(calibrations: Iterable[Calibration]) -> float:
    """The greatest calibration error among those that have seen some runs."""
    return max((c.error for c in calibrations if c.count), default=0.0)
