"""Pools of the admission core: apart from each other, learning from outcomes, shown to operators."""

import math

import pytest

from broker.domain.pool import PoolName
from broker.policy.admission.values import Admitted, Outcome, Quantiles, Queued
from tests.support.scheduling import (
    DASHBOARD,
    EXPLORATION,
    Adjustable,
    admitted_ids,
    ask,
    limits,
    offer_all,
    only,
    scheduler,
    shared,
    takes,
)


def test_pools_do_not_share_seats() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    assert isinstance(only(core.offer(ask("2", pool=PoolName.ADMIN), 0.0)), Admitted)
    assert isinstance(only(core.offer(ask("3", pool=PoolName.ADMIN), 0.0)), Queued)
    assert admitted_ids(core.finish("1", Outcome.SUCCESS, 1.0, 1.0)) == []


@pytest.mark.parametrize(
    ("outcome", "seconds", "expected"),
    [
        (Outcome.SUCCESS, 12.0, 3.0),  # 2 + 0.1 × (12 − 2)
        (Outcome.IGNORED, 12.0, 2.0),
        (Outcome.DROPPED, 12.0, 3.0),  # it would have taken at least as long
        (Outcome.DROPPED, 1.0, 2.0),  # says nothing
    ],
)
def test_what_is_learned_from_an_outcome(outcome: Outcome, seconds: float, expected: float) -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.finish("1", Outcome.SUCCESS, 2.0, 2.0)
    core.offer(ask("2", deadline=math.inf), 2.0)
    core.finish("2", outcome, seconds, 9.0)
    core.offer(ask("3", deadline=math.inf), 9.0)
    decision = only(core.offer(ask("4", deadline=math.inf), 9.0))
    assert isinstance(decision, Queued)
    assert decision.expected_wait == pytest.approx(expected)


@pytest.mark.parametrize("progress", [1.0, 0.5, 0.01])
def test_that_a_backend_is_slow_counts_once_in_a_wait(progress: float) -> None:
    """Work that took long says nothing that the speed of the backend does not say already."""
    core = shared(4, {DASHBOARD: limits(wait=1.0)}, policy=Adjustable(4, progress))
    for number in range(4):
        core.offer(ask(f"done {number}", deadline=math.inf, predicted=takes(1.0)), 0.0)
    for number in range(4):
        core.finish(f"done {number}", Outcome.SUCCESS, 1.0 / progress, 0.0)
        core.offer(ask(f"at work {number}", deadline=math.inf, predicted=takes(1.0)), 0.0)
    decision = only(core.offer(ask("last", deadline=math.inf, predicted=takes(1.0)), 0.0))
    assert isinstance(decision, Queued)
    assert decision.expected_wait == pytest.approx(1.0 / progress / 4)  # until the next of four ends


def test_the_state_shows_pools_and_tenants() -> None:
    core = scheduler()
    core.offer(ask("1", "a"), 0.0)
    core.finish("1", Outcome.SUCCESS, 3.0, 3.0)
    core.offer(ask("2", "b"), 3.0)
    core.finish("2", Outcome.SUCCESS, 1.0, 3.0)
    core.offer(ask("3", "a", 20.0), 3.0)
    core.offer(ask("4", "b", 20.0), 4.0)
    core.offer(ask("5", "b", 4.5, Quantiles(1.0, 1.0, 1.0)), 4.0)
    pool, admin = core.state(5.0)
    assert (pool.name, pool.seat_limit, pool.seats_used, pool.queue_length) == (DASHBOARD, 1, 1, 1)
    assert (pool.oldest_wait, pool.admitted_count, pool.refused_count) == (1.0, 3, 1)
    assert [(t.tenant, t.queue_length, t.seats_used) for t in pool.tenants] == [("a", 0, 1), ("b", 1, 0)]
    assert [t.share for t in pool.tenants] == pytest.approx([0.75, 0.25])
    assert (admin.name, admin.tenants) == (PoolName.ADMIN, ())


def test_the_oldest_wait_is_that_of_whoever_has_waited_longest() -> None:
    core = scheduler()
    core.offer(ask("1", "a", 100.0), 0.0)
    for name, tenant, at in (("2", "b", 1.0), ("3", "c", 2.0), ("4", "b", 3.0)):
        core.offer(ask(name, tenant, 100.0), at)
    assert core.state(5.0)[0].oldest_wait == 4.0


def test_a_pool_with_nothing_running_waits_for_what_runs_and_not_for_its_own_past() -> None:
    """Else it is refused for as long as the others are busy: nothing of its own ends that could tell better."""
    core = shared(3, {DASHBOARD: limits(share=5.0), EXPLORATION: limits(share=3.0)})
    for name, pool, seconds in (("slow", EXPLORATION, 60.0), ("quick", DASHBOARD, 1.0)):
        core.offer(ask(name, deadline=math.inf, predicted=takes(seconds), pool=pool), 0.0)
        core.finish(name, Outcome.SUCCESS, seconds, 0.0)
    busy = [ask(name, deadline=math.inf, predicted=takes(1.0)) for name in ("1", "2", "3")]
    assert all(isinstance(decision, Admitted) for decision in offer_all(core, busy))
    seen = core.refusal(EXPLORATION, "b", 0.0, budget=0.5), core.refusal(EXPLORATION, "b", 0.0, budget=0.3)
    decision = only(core.offer(ask("first", "b", 4.0, takes(1.0), EXPLORATION), 0.0))
    assert isinstance(decision, Queued), "it may wait for 0.75 s, a quarter of its slack"
    assert decision.expected_wait == pytest.approx(1.0 / 3), "until the first of three dashboards ends"
    assert seen[0] is None
    assert seen[1] is not None, "at the door the same is said"
    assert seen[1].expected_wait == decision.expected_wait
