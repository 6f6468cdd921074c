"""The chance that a running query still ends in time.

Its duration is taken as log-normal through the predicted quantiles, stretched by the backend's present speed, given
that it has not ended yet. Far beyond its prediction a query's remaining time grows with its age, as it does for real
ones: a query that was expected to take a second and has run for a minute will not end in the next second.
"""

from __future__ import annotations

import math

from broker.policy.admission.values import Quantiles

Z90_MINUS_Z10 = 2.5631031310892007
"""Standard deviations between the 10th and the 90th percentile of a normal distribution."""
MIN_SIGMA = 0.5
"""Predictions are trusted to a factor of 1.65 at best."""


def chance_in_time(predicted: Quantiles, elapsed: float, left: float, progress: float) -> float:
    """Probability, 0 to 1, that a query that has run ``elapsed`` seconds ends in the next ``left``; 1 if unknown."""
    if left <= 0.0:
        return 0.0
    if predicted.p50 <= 0.0 or math.isinf(left):
        return 1.0
    spread = math.log(predicted.p90 / predicted.p10) / Z90_MINUS_Z10 if predicted.p10 > 0.0 else 0.0
    sigma = max(MIN_SIGMA, spread)
    middle = math.log(predicted.p50 / progress)
    survived = _survival(elapsed, middle, sigma)
    if survived <= 0.0:
        return 0.0
    return 1.0 - _survival(elapsed + left, middle, sigma) / survived


def _survival(seconds: float, middle: float, sigma: float) -> float:
    if seconds <= 0.0:
        return 1.0
    return 0.5 * math.erfc((math.log(seconds) - middle) / (sigma * math.sqrt(2.0)))
