"""Predictions mended by how such predictions turned out."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy.calibration import LEVELS, NORMAL, Calibration, Guess


def guess(seconds: float, spread: float = 0.5) -> Guess:
    return Guess(math.log(seconds), spread, spread)


def test_without_any_run_the_prediction_is_taken_as_it_is() -> None:
    found = Calibration().quantiles(guess(2.0))
    assert found.p50 == pytest.approx(2.0)
    assert found.p10 == pytest.approx(2.0 * math.exp(-0.5 * NORMAL))
    assert found.p90 == pytest.approx(2.0 * math.exp(0.5 * NORMAL))


def test_what_is_always_predicted_too_cheap_is_put_right() -> None:
    """The winner's curse: of all predictions those that are too low are admitted."""
    calibration, random = Calibration(), Random(1)
    for _ in range(600):
        calibration.observe(guess(1.0), 3.0 * math.exp(random.gauss(0.0, 0.5)))
    assert calibration.quantiles(guess(1.0)).p50 == pytest.approx(3.0, rel=0.15)


def test_spreads_that_are_too_narrow_are_widened() -> None:
    calibration, random = Calibration(), Random(2)
    for _ in range(1000):
        calibration.observe(guess(1.0, 0.1), math.exp(random.gauss(0.0, 0.6)))
    found = calibration.quantiles(guess(1.0, 0.1))
    assert found.p10 == pytest.approx(math.exp(-0.6 * NORMAL), rel=0.25)
    assert found.p90 == pytest.approx(math.exp(0.6 * NORMAL), rel=0.25)


def test_what_narrow_guesses_missed_by_makes_no_ages_of_a_wide_one() -> None:
    calibration = Calibration()
    for i in range(1000):
        calibration.observe(guess(0.004, 0.05), 0.004 if i % 3 else 2.0)
    assert calibration.quantiles(guess(0.004, 0.05)).p90 < 10.0
    wide = calibration.quantiles(guess(0.004, 4.0))
    assert wide.p10 <= wide.p50 <= wide.p90 <= wide.p50 * math.exp(12.1)
    endless = calibration.quantiles(Guess(400.0, 4.0, 4.0))
    assert endless.p90 < 315_576_000_000, "what a message of protobuf can hold"


def test_coverage_meets_its_levels_whatever_the_bias_of_the_predictor() -> None:
    calibration, random = Calibration(), Random(3)
    hits = [0, 0, 0]
    for i in range(4000):
        truth = math.exp(random.gauss(0.0, 1.5))
        told = guess(truth**0.7 * math.exp(random.gauss(0.5, 0.4)), 0.2)
        if i >= 2000:
            found = calibration.quantiles(told)
            for place, bound in enumerate((found.p10, found.p50, found.p90)):
                hits[place] += truth <= bound
        calibration.observe(told, truth)
    for level, count in zip(LEVELS, hits, strict=True):
        assert count / 2000 == pytest.approx(level, abs=0.04)
    assert calibration.error < 0.06


def test_the_error_shows_predictions_that_are_off() -> None:
    calibration = Calibration()
    for i in range(200):
        calibration.observe(guess(1.0, 0.05), 1e4 if i % 2 else 1e-4)
    assert calibration.error > 0.1


def test_a_run_that_was_stopped_tells_something_only_when_it_was_longer_than_expected() -> None:
    calibration = Calibration()
    calibration.observe_above(guess(1.0), 0.5)
    assert calibration.quantiles(guess(1.0)) == Calibration().quantiles(guess(1.0))
    for _ in range(20):
        calibration.observe_above(guess(1.0), 4.0)
    assert calibration.quantiles(guess(1.0)).p50 > 1.5


RUNS = st.lists(st.tuples(st.floats(1e-4, 1e3), st.floats(1e-4, 1e3)), max_size=60)


@given(RUNS, st.floats(1e-4, 1e3), st.floats(1.0, 100.0))
def test_a_greater_prediction_never_becomes_a_smaller_median(
    runs: list[tuple[float, float]], told: float, factor: float
) -> None:
    calibration = Calibration()
    for predicted, seconds in runs:
        calibration.observe(guess(predicted), seconds)
    smaller, greater = calibration.quantiles(guess(told)), calibration.quantiles(guess(told * factor))
    assert greater.p50 >= smaller.p50 * (1 - 1e-9)
    assert smaller.p10 <= smaller.p50 <= smaller.p90


@given(RUNS, RUNS)
def test_merging_adds_what_another_has_seen(
    one: list[tuple[float, float]], two: list[tuple[float, float]]
) -> None:
    first, second = Calibration(), Calibration()
    for calibration, runs in ((first, one), (second, two)):
        for predicted, seconds in runs:
            calibration.observe(guess(predicted), seconds)
    first.merge(second)
    assert first.count == len(one) + len(two)
    assert all(0.0 <= share <= 1.0 for share in first.coverage)
