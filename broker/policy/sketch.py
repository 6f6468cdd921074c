"""A small sketch of positive values: weights in bins on a logarithmic scale, forgetting the old.

Bins are an eighth of an octave wide (9 %), as in DDSketch (Masson, Rim and Lee, 2019), so a quantile is off by 4.5 % at
most. A new sample makes all earlier ones count a little less, which bounds the weight that a sketch can have
to its ``memory``. A value of which only a lower bound is known takes its place among the values above the bound in
proportion to their weights (redistribution to the right: Efron's form of the Kaplan-Meier estimator); it never lowers
a quantile. A value of which only an upper bound is known does the same to the other side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

STEPS = 8
"""Bins to a factor of two."""
LEAST = 1e-6
"""Smaller values count as this one; seconds and numbers of rows are never less and matter."""
MEMORY = 48.0
"""Samples that count; older ones fade."""
MAX_BINS = 64
"""Beyond so many the lightest bin joins its neighbour, which takes values over more than eight octaves."""


class Sketch:
    """Quantiles of a stream, of which the last ``memory`` values count."""

    __slots__ = ("bins", "memory", "total")

    def __init__(self, memory: float = MEMORY, bins: Mapping[int, float] | None = None) -> None:
        self.memory = memory
        self.bins: dict[int, float] = dict(bins or {})
        self.total = sum(self.bins.values())

    def add(self, value: float) -> None:
        """A value."""
        self._age()
        self._put(bin_of(value), 1.0)
        self._prune()

    def add_above(self, bound: float) -> None:
        """A value that would have been at least ``bound``."""
        self._spread(bin_of(bound), {b: w for b, w in self.bins.items() if b >= bin_of(bound)})

    def add_below(self, bound: float) -> None:
        """A value that would have been at most ``bound``."""
        self._spread(bin_of(bound), {b: w for b, w in self.bins.items() if b <= bin_of(bound)})

    def quantile(self, share: float) -> float:
        """The value below which ``share`` of the weight lies, 0 to 1; 0 without values.

        Within a bin the weight is taken to lie evenly; the outermost bins are cut at their middles, so that a sketch of
        equal values gives that value for every share.
        """
        if not self.bins:
            return 0.0
        wanted, passed = share * self.total, 0.0
        ordered = sorted(self.bins)
        for b in ordered:
            weight = self.bins[b]
            if passed + weight >= wanted or b == ordered[-1]:
                inside = min(1.0, max(0.0, (wanted - passed) / weight))
                low = b if b == ordered[0] else b - 0.5
                high = b if b == ordered[-1] else b + 0.5
                return value_of(low + inside * (high - low))
            passed += weight
        return 0.0  # not reached: the last bin returns

    def merge(self, other: Sketch) -> None:
        """Adds what another has seen, within the bound on weight."""
        for b, weight in other.bins.items():
            self._put(b, weight)
        self._prune()
        if self.total > self.memory:
            scale = self.memory / self.total
            self.bins = {b: w * scale for b, w in self.bins.items()}
            self.total = sum(self.bins.values())

    def _spread(self, at: int, among: Mapping[int, float]) -> None:
        whole = sum(among.values())
        self._age()
        if whole <= 0.0:
            self._put(at, 1.0)
            return
        for b, weight in among.items():
            self._put(b, weight / whole)

    def _age(self) -> None:
        kept = 1.0 - 1.0 / self.memory
        for b in self.bins:
            self.bins[b] *= kept
        self.total *= kept

    def _put(self, at: int, weight: float) -> None:
        self.bins[at] = self.bins.get(at, 0.0) + weight
        self.total += weight

    def _prune(self) -> None:
        while len(self.bins) > MAX_BINS:
            lightest = min(self.bins, key=self.bins.__getitem__)
            weight = self.bins.pop(lightest)
            self.bins[min(self.bins, key=lambda b: abs(b - lightest))] += weight


def bin_of(value: float) -> int:
    """The bin of a value."""
    return round(STEPS * math.log2(max(LEAST, value)))


def value_of(place: float) -> float:
    """The value in the middle of a bin, or between two."""
    return float(2.0 ** (place / STEPS))
