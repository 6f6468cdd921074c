"""Seconds from the planner's estimate: from nothing, to what a database was seen to take."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.estimate import Estimate
from broker.policy.plan_model import SECONDS_PER_UNIT, PlanModel
from broker.policy.regression import Ridge
from broker.policy.shape import Shape


def estimate(rows: float, sort: float = 0.0) -> Estimate:
    cost = rows / 50 + sort
    return Estimate(
        cost, 10, 8, scan_cost=rows / 50, sort_cost=sort, read_rows=rows, grouped_rows=rows, sorted_rows=sort
    )


def test_before_anything_is_learned_cost_is_time() -> None:
    found = PlanModel().guess(estimate(50_000), Shape())
    assert math.exp(found.centre) == pytest.approx(1000 * SECONDS_PER_UNIT)
    assert math.exp(found.high * 1.2816) == pytest.approx(10.0)
    assert PlanModel().trust == 0.0


def test_what_measures_cost_is_learned_although_the_planner_does_not_know_it() -> None:
    model, random = PlanModel(), Random(1)

    def truth(rows: float, exact: int) -> float:
        return 0.001 + rows * 1e-7 * (1 + 9 * exact)

    for _ in range(600):
        rows, exact = math.exp(random.uniform(5, 14)), random.randrange(2)
        taken = truth(rows, exact) * math.exp(random.gauss(0, 0.1))
        model.observe(estimate(rows), Shape(measures=1, exact=exact), taken)
    for rows in (1e3, 1e5, 1e6):
        for exact in (0, 1):
            found = model.guess(estimate(rows), Shape(measures=1, exact=exact))
            assert math.exp(found.centre) == pytest.approx(truth(rows, exact), rel=0.35)
    assert model.trust > 0.9
    assert model.guess(estimate(1e5), Shape()).high < 0.4


def test_two_models_learn_together_what_one_would() -> None:
    one, two, both = PlanModel(), PlanModel(), PlanModel()
    random = Random(2)
    for i in range(400):
        rows = math.exp(random.uniform(5, 14))
        for model in (both, one if i % 2 else two):
            model.observe(estimate(rows), Shape(measures=1), rows * 1e-6)
    one.merge(two)
    assert one.ridge.count == pytest.approx(both.ridge.count, rel=0.05)
    told, known = (model.guess(estimate(1e5), Shape(measures=1)).centre for model in (one, both))
    assert told == pytest.approx(known, abs=0.1)


@given(
    st.lists(
        st.tuples(st.floats(0, 1e15), st.integers(0, 2**40), st.floats(0, 1e6), st.integers(0, 100)),
        max_size=40,
    )
)
def test_no_estimate_and_no_run_breaks_it(seen: list[tuple[float, int, float, int]]) -> None:
    model = PlanModel()
    for cost, rows, seconds, measures in seen:
        asked = Estimate(cost, rows, 100, scan_cost=cost, read_rows=float(rows), sorted_rows=float(rows))
        model.observe(asked, Shape(measures=measures), seconds)
        found = model.guess(asked, Shape(measures=measures))
        assert math.isfinite(found.centre)
        assert 0.0 < found.low < 10.0


def test_ridge_finds_the_weights() -> None:
    ridge, random = Ridge(3, 0.1), Random(3)
    for _ in range(500):
        x = (1.0, random.gauss(0, 1), random.gauss(0, 1))
        ridge.add(x, 2.0 - 3.0 * x[1] + 0.5 * x[2])
    assert ridge.predict((1.0, 0.0, 0.0)) == pytest.approx(2.0, abs=0.01)
    assert ridge.predict((1.0, 1.0, 2.0)) == pytest.approx(0.0, abs=0.01)
