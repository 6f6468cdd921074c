"""Confidence intervals from sums over blocks, which hold where rows of a block resemble each other.

Of N blocks n were drawn. A total is N times the mean over the drawn blocks, those without matching rows included, and a
ratio that of two such totals, whose error is to first order the total of the residuals y - R x (Cochran, Sampling
Techniques, 3rd ed., 1977: 2.6, 6.3). The variance is between blocks, never between rows, times 1 - n/N.

Means of skewed totals, and those of clustered filters are (most blocks have nothing, some have much), come out too low
together with their variance, so that Student's interval misses them above. Hall's transformation (On the removal of
skewness by transformation, J. R. Statist. Soc. B 54, 1992) takes the skewness out of the t statistic. The degrees of
freedom are those that the variance is worth with the sample's tails, 2n / (kurtosis - 1), so heavier tails widen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import NormalDist

from broker.domain.sample import POWERS, Figure, Interval, Sums

CONFIDENCE = 0.95
_NORMAL = NormalDist()
_CHEBYSHEV = 1 / math.sqrt(1 - CONFIDENCE)
"""Standard errors within which any mean lies with this probability."""
_UNSEEN = -math.log(1 - CONFIDENCE)
"""What has not been seen in n draws has less than this share of n (the rule of three)."""
_NORMALITY = 25.0
"""Draws, per squared skewness, from which the mean is near enough to normal (Cochran 1977, 2.15)."""
_TAIL, _TELLING = 0.4, 20
"""Part of the greatest possible skewness from which tails count as heavy, told from so many blocks or more."""
_ALIKE = 1e-3
"""Relative deviation of blocks that are nearly alike: their higher moments are lost in what doubles leave out."""
_TAILED = 12.0
"""The same for the sample itself, below which its limits are widened: its tails are heavier than the pilot's were."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How the totals of blocks (or residuals) lie around their mean, without their unit.

    ``value`` is the figure, ``scale`` the standard deviation of one draw relative to it (so that the error of n draws
    is ``scale`` over the root of n), ``below`` that of the denominator alone; ``support`` is the share of draws that
    say anything about the figure. ``tail`` is the skewness that comes of the blocks that have any of it, relative
    to the most that so many could show: towards one, a few blocks hold most of what varies, and others like them were
    not seen.
    """

    value: float
    scale: float
    skewness: float
    kurtosis: float
    support: float
    below: float = 0.0
    tail: float = 0.0

    def normal(self, drawn: float, fraction: float) -> bool:
        """Whether the mean of so many draws, a fraction of all blocks, is near enough to normal."""
        enough = _NORMALITY * _finite_skewness(self.skewness, fraction) ** 2
        return drawn >= enough and self.tail <= _TAIL and self.scale > _ALIKE

    def relative(self, drawn: float, fraction: float, *, careful: bool) -> float:
        """The relative half-width to be expected of so many draws, a fraction of all blocks."""
        left = math.sqrt(max(0.0, 1.0 - fraction))
        if careful:
            unseen = _UNSEEN * (1 - fraction) / max(drawn * self.support, 1e-9)
            return max(_CHEBYSHEV * self.scale * left / math.sqrt(drawn), unseen)
        return student(max(1.0, drawn - 1)) * self.scale * left / math.sqrt(drawn)


def spread(figure: Figure, sums: Sums, drawn: int) -> Spread | None:
    """The spread of a figure over so many drawn blocks; None where they do not say enough to tell."""
    if drawn < 2 or not all(math.isfinite(each) for each in sums.powers.values()):
        return None
    moments = _residuals(sums, drawn) if figure.below else _central(sums, drawn)
    mean = sums.powers[0, 1] / drawn if figure.below else sums.powers[1, 0] / drawn
    total = sums.powers[1, 0]
    if moments is None or not mean or not total:
        return None
    value = total / sums.powers[0, 1] if figure.below else mean
    variance = moments[2] * drawn / (drawn - 1)
    size = abs(value * mean) if figure.below else abs(mean)
    seen = min(sums.above, sums.below) if figure.below else sums.above
    below = _relative_deviation(sums, drawn) if figure.below else 0.0
    if variance <= (1e-9 * size) ** 2:  # beyond what doubles can tell apart
        return Spread(value, 0.0, 0.0, 3.0, seen / drawn, below)
    if variance <= (_ALIKE * size) ** 2:
        return Spread(value, math.sqrt(variance) / size, 0.0, 3.0, seen / drawn, below)
    skewness = moments[3] / moments[2] ** 1.5
    kurtosis = max(1.0 + skewness**2, moments[4] / moments[2] ** 2)
    tail = _tail(figure, sums, moments, drawn)
    return Spread(value, math.sqrt(variance) / size, skewness, kurtosis, seen / drawn, below, tail)


def interval(figure: Figure, sums: Sums, drawn: int, blocks: int, *, careful: bool) -> Interval | None:
    """The figure with its limits; ``careful`` where the mean of so many draws is not near normal.

    Then the limits are those of Chebyshev, and at least what could be in the blocks that nothing like was drawn of.
    """
    found = spread(figure, sums, drawn)
    if found is None:
        return None
    value = found.value if figure.below else found.value * blocks
    fraction = min(1.0, drawn / blocks)
    if careful or found.scale <= _ALIKE or drawn < _TAILED * _finite_skewness(found.skewness, fraction) ** 2:
        side = abs(value) * found.relative(drawn, fraction, careful=True)
        lower, upper = value - side, value + side
    else:
        error = abs(value) * found.scale * math.sqrt(max(0.0, 1 - fraction) / drawn)
        degrees = 2 * drawn / max(1e-9, (found.kurtosis - 1) * max(1e-9, 1 - fraction))
        wide = student(min(drawn - 1.0, max(1.0, degrees)))
        skewness = _finite_skewness(found.skewness, fraction)
        lower = value - error * _untransformed(wide, skewness, drawn)
        upper = value - error * _untransformed(-wide, skewness, drawn)
    if figure.counts and not figure.below:
        lower = max(lower, sums.powers[1, 0])  # what was seen is there
    return Interval(value, lower, upper)


def student(degrees: float, confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of Student's t (G. W. Hill, Algorithm 396, Comm. ACM 13, 1970); degrees from 1."""
    outside = 1 - confidence
    if degrees < 2:
        return 1 / math.tan(outside * math.pi / 2) if degrees <= 1 else student(1.0, confidence)
    if degrees == 2:
        return math.sqrt(2 / (outside * (2 - outside)) - 2)
    a = 1 / (degrees - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * degrees
    y: float = (d * outside) ** (2 / degrees)
    if y > 0.05 + a:
        x = _NORMAL.inv_cdf(outside / 2)
        y = x * x
        if degrees < 5:
            c += 0.3 * (degrees - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        tail = 1 / (((degrees + 6) / (degrees * y) - 0.089 * d - 0.822) * (degrees + 2) * 3)
        y = ((tail + 0.5 / (degrees + 4)) * y - 1) * (degrees + 1) / (degrees + 2) + 1 / y
    return math.sqrt(degrees * y)


def _untransformed(quantile: float, skewness: float, drawn: int) -> float:
    """The value of the t statistic that Hall's transformation takes to the quantile."""
    a = skewness / math.sqrt(drawn)
    if abs(a) < 1e-9:
        return quantile
    return 3 / a * (math.cbrt(1 + a * (quantile - a / 6)) - 1)


def _finite_skewness(skewness: float, fraction: float) -> float:
    """The skewness that counts for a mean of draws without replacement (Cochran 1977, 2.15)."""
    if fraction >= 1:
        return 0.0
    return skewness * (1 - 2 * fraction) / math.sqrt(1 - fraction)


def _central(sums: Sums, drawn: int) -> list[float]:
    """Central moments up to the fourth, zero blocks included."""
    raw = [1.0, *(sums.powers[a, 0] / drawn for a in range(1, POWERS + 1))]
    mean = raw[1]
    return [
        sum(comb(order, k) * raw[k] * (-mean) ** (order - k) for k in range(order + 1))
        for order in range(POWERS + 1)
    ]


def _residuals(sums: Sums, drawn: int) -> list[float] | None:
    """Moments of y - R x up to the fourth; their mean is zero by the choice of R."""
    powers = sums.powers
    if not powers[0, 1]:
        return None
    ratio = powers[1, 0] / powers[0, 1]
    found = [1.0, 0.0]
    for order in range(2, POWERS + 1):
        terms = (comb(order, k) * powers[order - k, k] * (-ratio) ** k for k in range(order + 1))
        found.append(sum(terms) / drawn)
    return found


def _tail(figure: Figure, sums: Sums, moments: Sequence[float], drawn: int) -> float:
    """What the blocks that have any of the figure add to the skewness, by the greatest that so many draws could show.

    How many blocks have nothing of it is left out: that makes totals skewed too, but is seen for what it is.
    """
    seen = sums.below if figure.below else sums.above
    if seen < _TELLING:
        return 0.0
    third = moments[3] if figure.below else _central(sums, seen)[3] * seen / drawn
    return abs(third) / (moments[2] * math.sqrt(moments[2])) / math.sqrt(drawn)


def _relative_deviation(sums: Sums, drawn: int) -> float:
    """Standard deviation of the denominator's block totals relative to their mean."""
    mean = sums.powers[0, 1] / drawn
    variance = max(0.0, sums.powers[0, 2] / drawn - mean**2)
    return math.sqrt(variance) / abs(mean)
