"""Guards against a wrong baseline: did running fewer queries make each of them faster?

If queries are slow because there are many of them, they speed up as there are fewer: on a shared processor the slope
of their stretch over ln(seats in use) is -1. If they are slow however few there are, predictions are wrong, or the data
has grown, and fewer seats would only waste capacity: without this guard the limit would sink to its floor.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import StatisticsError, fmean, linear_regression, pstdev

TICKS, FEWEST_TICKS = 40, 8
SPREAD = 0.14
"""Standard deviation of ln(seats in use) from which a slope means something."""
FLAT = -0.35
"""A slope above this is no contention."""
VERDICTS = 2
"""So many in a row are needed: noise makes single ones."""


class SlopeGuard:
    """The last ticks of one backend, as stretch over load. Decisions within ``spacing`` seconds are one tick."""

    def __init__(self, spacing: float) -> None:
        self._spacing = spacing
        self._at = -math.inf
        self._sum = (0.0, 0.0, 0)
        self._ticks: deque[tuple[float, float]] = deque(maxlen=TICKS)
        self._verdicts = 0
        self.slope = 0.0
        self.fresh = False

    @property
    def stretch(self) -> float:
        """Mean stretch over the ticks."""
        return fmean(stretch for _, stretch in self._ticks)

    def add(self, load: float, stretch: float, now: float) -> None:
        """One decision: ``load`` is ln(seats in use)."""
        loads, stretches, count = self._sum
        self._sum = loads + load, stretches + stretch, count + 1
        if now - self._at >= self._spacing:
            self._ticks.append(((loads + load) / (count + 1), (stretches + stretch) / (count + 1)))
            self._at, self._sum, self.fresh = now, (0.0, 0.0, 0), True

    def clear(self) -> None:
        """Begins anew: what was before is about another baseline or another capacity."""
        self._ticks.clear()
        self._verdicts, self._sum = 0, (0.0, 0.0, 0)

    def acquits(self) -> bool:
        """Whether the number of queries is not why they are slow. Ask at every tick at which they are."""
        if not self.fresh:
            return False
        self.fresh = False
        loads = [load for load, _ in self._ticks]
        if len(loads) < FEWEST_TICKS or loads[-1] > fmean(loads) or pstdev(loads) < SPREAD:
            self._verdicts = 0
            return False
        try:
            self.slope = linear_regression(loads, [stretch for _, stretch in self._ticks]).slope
        except StatisticsError:
            return False
        self._verdicts = self._verdicts + 1 if self.slope > FLAT else 0
        return self._verdicts >= VERDICTS
