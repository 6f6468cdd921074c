"""What is known of one fingerprint, and that a run which was stopped never makes it look faster."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy.calibration import NORMAL, Guess
from broker.policy.history import History

SECONDS = st.lists(st.floats(1e-4, 1e3), max_size=30)


def history(*seconds: float) -> History:
    found = History(0.0)
    for each in seconds:
        found.add(each, 1, 1, 0.0)
    return found


def quantiles(guess: Guess) -> list[float]:
    return [guess.centre - NORMAL * guess.low, guess.centre, guess.centre + NORMAL * guess.high]


def model(seconds: float) -> Guess:
    return Guess(math.log(seconds), 0.5, 0.5)


@given(SECONDS.filter(bool), st.floats(1e-4, 1e3), st.none() | st.floats(1e-4, 1e3), st.floats(0, 1))
def test_a_run_that_was_stopped_never_lowers_a_quantile(
    seconds: list[float], stopped: float, planned: float | None, trust: float
) -> None:
    said = model(planned) if planned is not None else None
    before, after = history(*seconds), history(*seconds)
    after.add_cut_short(stopped, 1.0)
    pairs = zip(
        quantiles(before.guess(said, trust=trust)), quantiles(after.guess(said, trust=trust)), strict=True
    )
    for old, new in pairs:
        assert new >= old - 1e-6


@given(SECONDS.filter(bool), st.floats(1e-4, 1e3))
def test_quantiles_are_in_order(seconds: list[float], planned: float) -> None:
    for own in (False, True):
        found = quantiles(history(*seconds).guess(model(planned), own=own))
        assert found == sorted(found)


def test_few_runs_lean_on_the_model_and_many_do_not() -> None:
    few, many = history(1.0), history(*[1.0] * 60)
    assert 0.1 < few.guess(model(100.0)).centre < many.guess(model(100.0)).centre + math.log(100.0)
    assert many.guess(model(100.0)).centre == pytest.approx(0.0, abs=0.06)
    assert few.guess(model(100.0), trust=0.0).centre == pytest.approx(0.0)


def test_an_estimate_of_its_own_moves_even_a_known_question_by_its_usual_offset() -> None:
    known = history(*[1.0] * 60)
    for _ in range(60):
        known.offset.add(2.0)  # runs take twice as long as the model says
    moved = known.guess(model(4.0), own=True).centre
    assert math.log(3.0) < moved < math.log(8.0)
    assert known.guess(model(0.5), own=True).centre == pytest.approx(0.0, abs=0.05)


def test_the_first_run_that_was_stopped_is_where_the_prediction_begins() -> None:
    found = History(0.0)
    found.add_cut_short(5.0, 0.0)
    assert found.guess(None).centre == pytest.approx(math.log(5.0), abs=0.05)
    assert found.guess(model(1.0)).centre == pytest.approx(math.log(5.0), abs=0.05)
    assert found.guess(model(50.0)).centre == pytest.approx(math.log(50.0))


def test_a_run_beside_others_bounds_an_unknown_question_until_it_is_known() -> None:
    found = History(0.0)
    found.add_contended(3.0, 0.0)
    found.add_contended(8.0, 0.0)
    assert found.ceiling == 3.0
    assert not found.known
    found.add(2.0, 1, 1, 0.0)
    assert found.ceiling == math.inf
