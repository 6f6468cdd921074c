"""Running work that will hardly end in time is stopped where others wait for its seat."""

from __future__ import annotations

import math

import pytest

from broker.domain.pool import PoolName
from broker.policy.admission.hopeless import chance_in_time
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import Killed, Outcome, Quantiles, Tuning
from tests.support.scheduling import (
    DASHBOARD,
    EXPLORATION,
    UNKNOWN,
    Adjustable,
    admitted_ids,
    ask,
    killed_ids,
    limits,
    scheduler,
    shared,
    takes,
)

KNOWN = Quantiles(0.5, 1.0, 2.0)
EVERY = Tuning().hopeless_every


@pytest.mark.parametrize(
    ("predicted", "elapsed", "left", "progress", "expected"),
    [
        (UNKNOWN, 50.0, 1.0, 1.0, 1.0),  # nothing is known
        (KNOWN, 50.0, math.inf, 1.0, 1.0),  # it has all the time
        (KNOWN, 0.0, 0.0, 1.0, 0.0),
        (UNKNOWN, 5.0, 0.0, 1.0, 0.0),
        (UNKNOWN, 0.0, -1.0, 1.0, 0.0),
        (KNOWN, 0.0, 1.0, 1.0, 0.5),  # the median
        (KNOWN, 0.0, 2.0, 1.0, 0.9),
        (KNOWN, 0.0, 0.5, 1.0, 0.1),
        (KNOWN, 0.0, 2.0, 0.5, 0.5),  # at half the speed the median is two seconds
        (KNOWN, 1.0, 1.0, 1.0, 0.8),  # of the half that takes longer, four in five end before the second one
        (takes(1.0), 0.0, math.exp(0.5), 1.0, 0.841),  # without spread a factor of 1.65 is one deviation
        (Quantiles(0.0, 1.0, 9.0), 0.0, math.exp(0.5), 1.0, 0.841),
        (KNOWN, 1e9, 1.0, 1.0, 0.0),  # so far out that nothing is left of the distribution
    ],
)
def test_the_chance_to_end_in_time(
    predicted: Quantiles, elapsed: float, left: float, progress: float, expected: float
) -> None:
    assert chance_in_time(predicted, elapsed, left, progress) == pytest.approx(expected, abs=0.002)


def test_the_longer_it_has_run_beyond_its_prediction_the_longer_it_will() -> None:
    chances = [chance_in_time(takes(1.0), elapsed, 1.0, 1.0) for elapsed in (2.0, 5.0, 20.0, 60.0)]
    assert chances == sorted(chances, reverse=True)


def late_one(deadline: float = 10.0, predicted: Quantiles = KNOWN, *, waiter: bool = True) -> Scheduler:
    core = shared(1, {DASHBOARD: limits(), EXPLORATION: limits()})
    core.offer(ask("late", "a", deadline, predicted), 0.0)
    if waiter:
        core.offer(ask("next", "b", 1e6, takes(1.0)), 9.0)
    return core


def test_hopeless_work_is_stopped_while_others_wait() -> None:
    core = late_one()
    assert core.next_wakeup() == 9.0 + EVERY
    decisions = core.tick(9.99)
    (killed,) = decisions
    assert isinstance(killed, Killed)
    assert (killed.id, killed.pool) == ("late", DASHBOARD)
    assert killed.left == pytest.approx(0.01)
    assert 0.0 <= killed.chance < 0.02


def test_it_keeps_its_seat_until_it_has_really_ended_and_is_told_once() -> None:
    core = late_one()
    assert killed_ids(core.tick(9.99)) == ["late"]
    assert core.loads()[0].seats_used == 1
    assert core.tick(10.5) == ()
    assert admitted_ids(core.finish("late", Outcome.DROPPED, 10.6, 10.6)) == ["next"]


def test_nobody_is_stopped_for_nobody() -> None:
    core = late_one(waiter=False)
    assert core.next_wakeup() is None
    assert core.tick(9.99) == ()


def test_the_waiter_may_be_of_another_pool_of_the_backend() -> None:
    core = late_one(waiter=False)
    core.offer(ask("next", "b", 1e6, takes(1.0), EXPLORATION), 9.0)
    assert killed_ids(core.tick(9.99)) == ["late"]


def test_work_with_a_chance_goes_on() -> None:
    core = late_one(predicted=takes(9.5))
    assert core.tick(9.8) == ()
    assert core.tick(9.99) == ()  # looked at a moment ago
    assert killed_ids(core.tick(10.05)) == ["late"]


def test_what_has_no_deadline_goes_on() -> None:
    assert late_one(math.inf).tick(1e5) == ()


def test_work_past_its_deadline_is_stopped_even_when_nothing_is_known_of_it() -> None:
    core = late_one(predicted=UNKNOWN)
    assert core.tick(9.99) == ()
    (killed,) = core.tick(10.25)
    assert isinstance(killed, Killed)
    assert (killed.chance, killed.left) == (0.0, 0.0)


def test_looks_come_at_intervals_while_somebody_waits() -> None:
    core = shared(1, {DASHBOARD: limits()}, tuning=Tuning(hopeless_every=2.0))
    core.offer(ask("1", "a", 1e6, KNOWN), 0.0)
    core.offer(ask("2", "b", 1e6, KNOWN), 1.0)
    assert core.next_wakeup() == 3.0
    core.offer(ask("3", "b", 1e6, KNOWN), 2.0)
    assert core.next_wakeup() == 3.0
    assert core.tick(3.5) == ()
    assert core.next_wakeup() == 5.5
    core.cancel("2", 4.0)
    core.cancel("3", 4.0)
    assert core.next_wakeup() is None
    core.offer(ask("4", "b", 1e6, KNOWN), 50.0)
    assert core.next_wakeup() == 52.0


def test_a_slow_backend_is_reckoned_with() -> None:
    policy = Adjustable(1)
    core = shared(1, {DASHBOARD: limits()}, policy=policy)
    core.offer(ask("1", "a", 4.0, takes(1.0)), 0.0)
    core.offer(ask("2", "b", 1e6, takes(1.0)), 0.0)
    assert core.tick(1.0) == ()
    policy.progress = 0.05
    assert killed_ids(core.tick(1.25)) == ["1"]


def test_every_pool_and_everything_that_runs_is_looked_at() -> None:
    core = scheduler(in_flight=2)
    core.offer(ask("idle", "z", 1.0), 0.0)  # late, but nobody waits for its pool
    core.offer(ask("late", "a", 1.0, pool=PoolName.ADMIN), 0.0)
    core.offer(ask("next", "b", 1e6, pool=PoolName.ADMIN), 0.0)
    assert killed_ids(core.tick(2.0)) == ["late"]


def test_what_goes_on_hides_nobody_behind_it() -> None:
    core = shared(3, {DASHBOARD: limits()})
    for name, deadline in (("endless", math.inf), ("first", 1.0), ("second", 2.0)):
        core.offer(ask(name, name, deadline), 0.0)
    core.offer(ask("next", "b", 1e6), 0.0)
    assert killed_ids(core.tick(1.5)) == ["first"]
    assert killed_ids(core.tick(2.5)) == ["second"]


@pytest.mark.parametrize("asked", [False, True], ids=["replayed", "live"])
def test_it_does_not_matter_who_asks_when_to_look_again(asked: bool) -> None:
    """A replay of a log of decisions asks never, a running broker after each event."""
    core = late_one()
    core.cancel("next", 9.0 + 0.2 * EVERY)
    if asked:
        core.next_wakeup()
    core.offer(ask("again", "b", 1e6, takes(1.0)), 10.0 - 0.02 * EVERY)
    assert killed_ids(core.tick(10.0)) == []
    assert killed_ids(core.tick(10.0 + EVERY)) == ["late"]
