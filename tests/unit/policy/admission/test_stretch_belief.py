"""What is believed of a backend, reading by reading."""

from __future__ import annotations

import math
from random import Random

import pytest

from broker.policy.admission.stretch_belief import Belief

BATCH = 0.5 / math.sqrt(8)
"""Error of the mean stretch of eight queries whose predictions scatter by 0.5."""


def told(belief: Belief, seats: float, batches: int, *, capacity: float = 32.0, bias: float = 0.0) -> Belief:
    """A shared processor with so many batches of queries beside so many seats in use, one each half second."""
    random = Random(7)
    for batch in range(batches):
        if batch % 2:
            belief.age(1.0)
        slower = 1.2 * min(0.0, math.log(capacity / seats))
        belief.observe(bias + slower + random.gauss(0.0, BATCH), math.log(seats), BATCH)
    return belief


def test_before_any_evidence_the_nominal_limit_is_believed() -> None:
    belief = Belief(32, 2, 400)
    assert belief.capacity(0.5) == pytest.approx(32, rel=0.1)
    assert belief.bias == pytest.approx(0.0, abs=1e-9)
    assert belief.capacity(0.1) < 25
    assert belief.capacity(0.9) > 41


def test_slower_beyond_the_capacity_tells_how_much_it_is() -> None:
    belief = told(Belief(32, 2, 400), 36, 40, capacity=20)
    assert belief.capacity(0.5) == pytest.approx(20, rel=0.15)
    assert belief.expected(math.log(36)) == pytest.approx(1.2 * math.log(20 / 36), abs=0.1)


def test_full_speed_tells_only_that_there_may_be_more() -> None:
    belief = told(Belief(32, 2, 400), 40, 40, capacity=100)
    assert belief.capacity(0.2) > 37
    assert belief.capacity(0.8) > 45


@pytest.mark.parametrize("bias", [-0.36, 0.26])
def test_the_bias_is_what_remains_as_there_are_fewer(bias: float) -> None:
    belief = Belief(32, 2, 400)
    for seats in (36.0, 24.0, 36.0, 24.0):
        told(belief, seats, 24, capacity=28, bias=bias)
    assert belief.bias == pytest.approx(bias, abs=0.1)
    assert belief.capacity(0.5) == pytest.approx(28, rel=0.15)


def test_half_of_the_capacity_gone_is_noticed_within_six_batches() -> None:
    belief = told(Belief(32, 2, 400), 33, 100)
    assert belief.capacity(0.8) > 30
    assert told(belief, 33, 6, capacity=16).capacity(0.8) < 22


def test_a_backend_that_says_that_it_is_full_is_no_victim_of_predictions() -> None:
    excused, full = Belief(32, 2, 400), Belief(32, 2, 400)
    for belief, contended in ((excused, False), (full, True)):
        for seats in (30.0, 20.0, 15.0):
            for _ in range(10):
                belief.age(0.5)
                belief.observe(-0.3, math.log(seats), BATCH, contended=contended)
    assert excused.bias < -0.2
    assert full.bias > -0.02
    assert full.capacity(0.8) < 20 < excused.capacity(0.8)


def test_a_new_beginning_forgets_the_capacity_and_no_bias() -> None:
    belief = Belief(32, 2, 400)
    for seats in (36.0, 12.0, 36.0, 12.0):
        told(belief, seats, 24, capacity=20, bias=-0.3)
    anew = belief.restarted()
    assert anew.bias == pytest.approx(belief.bias)
    assert anew.capacity(0.5) == pytest.approx(32, rel=0.1)
    assert belief.capacity(0.5) == pytest.approx(20, rel=0.2)


def test_what_an_idle_backend_shows_outranks_what_was_believed() -> None:
    belief = Belief(32, 2, 400)
    for seats in (36.0, 12.0, 36.0, 12.0):
        told(belief, seats, 24, capacity=20, bias=-0.3)
    for _ in range(200):
        belief.forget_bias(0.02)
    assert belief.bias == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    ("nominal", "floor", "ceiling"), [(1, 1, 1), (2, 2, 2), (4, 1, 1000), (400, 40, 500)]
)
def test_any_bounds_will_do(nominal: int, floor: int, ceiling: int) -> None:
    belief = told(Belief(nominal, floor, ceiling), float(nominal), 10, capacity=float(nominal))
    assert math.isfinite(belief.capacity(0.8))
    assert belief.capacity(0.0) <= belief.capacity(1.0 - 1e-9)
    assert belief.capacity(1.1) > 0
