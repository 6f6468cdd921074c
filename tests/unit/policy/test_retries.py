"""Pauses and budget of retries on a clock of the test's own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy.retries import RetryBudget, RetrySettings, Stop, backoff

SETTINGS = RetrySettings(attempts=3, first_pause=0.1, longest_pause=1.0, ratio=0.1, reserve=1.0, tokens=10.0)


def test_a_call_is_tried_so_often_and_no_more() -> None:
    budget = RetryBudget(SETTINGS, lambda: 0.5, 0.0)
    assert budget.again(1, 0.0, math.inf) == pytest.approx(0.05)
    assert budget.again(2, 0.0, math.inf) == pytest.approx(0.1)
    assert budget.again(3, 0.0, math.inf) is Stop.ATTEMPTS


@pytest.mark.parametrize(("random", "pause"), [(0.0, 0.0), (0.5, 0.05), (0.999, 0.0999)])
def test_pauses_are_spread_over_the_whole_ceiling(random: float, pause: float) -> None:
    assert RetryBudget(SETTINGS, lambda: random, 0.0).again(1, 0.0, math.inf) == pytest.approx(pause)


def test_ceilings_double_up_to_the_longest() -> None:
    assert [backoff(n, 0.1, 1.0) for n in (1, 2, 3, 4, 5, 2_000)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1, 1])


def test_a_pause_that_passes_the_deadline_is_not_made_and_costs_nothing() -> None:
    budget = RetryBudget(replace(SETTINGS, tokens=1.0), lambda: 0.9, 0.0)
    assert budget.again(1, 5.0, 5.05) is Stop.DEADLINE
    assert budget.again(1, 5.0, 5.5) == pytest.approx(0.09)


def test_the_budget_ends_and_comes_back_with_calls_and_with_time() -> None:
    budget = RetryBudget(replace(SETTINGS, tokens=2.0), lambda: 0.0, 0.0)
    asked = [budget.again(1, 0.0, math.inf) for _ in range(3)]
    assert asked == [0.0, 0.0, Stop.BUDGET]
    for _ in range(11):  # tenths do not add up to one exactly
        budget.called()
    assert budget.again(1, 0.0, math.inf) == 0.0
    assert budget.again(1, 0.5, math.inf) is Stop.BUDGET
    assert budget.again(1, 1.5, math.inf) == 0.0


@given(
    st.lists(st.tuples(st.floats(0.0, 0.5), st.booleans()), max_size=400),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_retries_never_exceed_the_share_of_the_calls_and_the_reserve(
    events: list[tuple[float, bool]], random: float
) -> None:
    """Every call fails and asks for retries at once: the worst that a backend can be exposed to."""
    budget, now, calls, retries = RetryBudget(SETTINGS, lambda: random, 0.0), 0.0, 0, 0
    for seconds, call in events:
        now += seconds
        if call:
            budget.called()
            calls += 1
        retries += isinstance(budget.again(1, now, math.inf), float)
        assert retries <= SETTINGS.tokens + SETTINGS.ratio * (calls + 1) + SETTINGS.reserve * now + 1e-6
