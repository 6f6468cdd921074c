"""Limits of the rivals: on long and varied queries they do what they are known for."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest

from broker.policy.admission.limit import LimitPolicy
from broker.policy.admission.values import Outcome
from broker.simulation.rivals.gradient2 import Gradient2
from broker.simulation.rivals.vegas import Vegas


def fed(policy: LimitPolicy, times: Iterable[float]) -> list[int]:
    """The limit after each query, of which as many as allowed are always under way."""
    running: list[str] = []
    limits = []
    for n, seconds in enumerate(times):
        while len(running) < policy.limit:
            running.append(f"{n}/{len(running)}")
            policy.started(running[-1], 0.0, 1, float(n))
        policy.ended(running.pop(0), Outcome.SUCCESS, seconds, float(n))
        limits.append(policy.limit)
    return limits


def test_vegas_takes_varied_queries_for_a_queue_and_sinks() -> None:
    limits = fed(Vegas(seed=1), [Random(n).lognormvariate(0.0, 1.2) for n in range(1000)])

    assert min(limits) >= 1
    assert sum(limits[500:]) / 500 < 10


def test_vegas_grows_to_its_maximum_while_all_queries_take_the_same() -> None:
    assert fed(Vegas(seed=1), [1.0] * 2000)[-1] == 1000


def test_vegas_probes_for_the_best_time_anew() -> None:
    limits = fed(Vegas(seed=1), [1.0] * 5 + [3.0] * 3000)

    assert min(limits) < limits[4]  # all at once slower: it sinks
    assert limits[-1] > 100  # until a probe takes the slower time for the best


def seconds_of_gradient2(times: Iterable[float], per_second: int = 15) -> list[int]:
    """The limit after each second in which so many queries ended, evenly spread, all of which took as long."""
    policy = Gradient2()
    limits = []
    for second, seconds in enumerate(times):
        for n in range(300):
            policy.started(str(n), 0.0, 1, float(second))
        for n in range(300):
            outcome = Outcome.SUCCESS if n >= 300 - per_second else Outcome.IGNORED
            policy.ended(str(n), outcome, seconds, second + (n - 300 + per_second) / per_second)
        limits.append(policy.limit)
    return limits


def test_gradient2_drifts_up_when_everything_is_equally_slow() -> None:
    limits = seconds_of_gradient2([1.0] * 20 + [1.4] * 100)

    assert limits[-1] > limits[20] > 20  # its allowance is added whatever happens
    assert limits[-1] > 60


def test_gradient2_falls_when_times_double_and_more() -> None:
    limits = seconds_of_gradient2([1.0] * 30 + [6.0] * 5)

    assert limits[-1] < limits[29]


def test_gradient2_never_learns_from_fewer_than_ten_queries_a_second() -> None:
    assert set(seconds_of_gradient2([9.0] * 50, per_second=7)) == {20}


def after_one(policy: LimitPolicy, seconds: float, outcome: Outcome = Outcome.SUCCESS, used: int = 20) -> int:
    """The limit after a query of one second, the best time, and another, with so many in flight."""
    for n in range(used):
        policy.started(str(n), 0.0, 1, 0.0)
    policy.ended(str(used - 1), Outcome.SUCCESS, 1.0, 1.0)
    policy.started("next", 0.0, 1, 1.0)
    policy.ended("next", outcome, seconds, 2.0)
    return policy.limit


@pytest.mark.parametrize(
    ("seconds", "limit"),
    [
        (1.05, 26),
        (1.06, 21),
        (1.11, 21),
        (1.12, 20),
        (1.42, 20),
        (1.44, 19),
        (9.0, 19),
    ],  # 1, 2, 3 to 6, 7 queued
)
def test_vegas_goes_by_how_many_seem_to_queue(seconds: float, limit: int) -> None:
    assert after_one(Vegas(seed=1), seconds) == limit


def test_vegas_goes_down_on_a_drop_and_stays_while_half_is_unused() -> None:
    assert after_one(Vegas(seed=1), 1.05, Outcome.DROPPED) == 19
    assert after_one(Vegas(seed=1), 1.05, Outcome.IGNORED) == 20
    assert after_one(Vegas(seed=1), 1.05, used=10) == 26
    assert after_one(Vegas(seed=1), 1.05, used=9) == 20


def test_gradient2_adds_a_fifth_of_its_allowance_a_second_while_nothing_changes() -> None:
    assert seconds_of_gradient2([1.0] * 11)[-1] == 28  # ten windows after the first, 0.8 each


def test_gradient2_takes_at_most_a_tenth_less_its_allowance_and_forgives_half_as_much_again() -> None:
    before, after = seconds_of_gradient2([1.0] * 200 + [1.49])[-2:]
    assert after >= before
    before, *_, after = seconds_of_gradient2([1.0] * 200 + [60.0] * 3)[-3:]
    assert before * 0.89**2 < after < before * 0.93**2


def test_a_core_hears_at_once_of_a_limit_that_changed() -> None:
    policy = Vegas(seed=1)
    assert policy.next_tick() is None

    after_one(policy, 1.01)
    assert policy.next_tick() == 2.0
    policy.tick(waiting=True, now=2.0)
    assert policy.next_tick() is None
