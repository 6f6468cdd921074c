"""Pools of one backend: what is charged to them, and how fast each is served."""

from __future__ import annotations

import pytest

from broker.domain.pool import PoolName
from broker.policy.admission.backend import Backend
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import Outcome
from tests.support.scheduling import (
    DASHBOARD,
    EXPLORATION,
    JOB,
    Adjustable,
    admitted_ids,
    ask,
    limits,
    offer_all,
    shared,
    takes,
)

FAR = 1e6
SHARES = {DASHBOARD: 3.0, EXPLORATION: 2.0, JOB: 1.0}


def inside(core: Scheduler, pool: PoolName) -> Backend:
    return core._book.backends[pool]  # rates and tags show outside only mixed with others


def three(lendable: float = 1.0, in_flight: int = 100, progress: float = 1.0) -> Scheduler:
    """Twelve seats, of which the pools own six, four and two."""
    pools = {name: limits(in_flight, share=share, lendable=lendable) for name, share in SHARES.items()}
    return shared(12, pools, policy=Adjustable(12, progress))


def rate(core: Scheduler, pool: PoolName) -> float:
    return inside(core, pool).rate(core._book.pools[pool])


def run(core: Scheduler, pool: PoolName, count: int) -> None:
    offer_all(core, [ask(f"{pool}/{n}", f"{pool}/{n}", FAR, takes(1.0), pool) for n in range(count)])


@pytest.mark.parametrize("pool", SHARES)
def test_a_pool_counts_on_what_others_do_not_use(pool: PoolName) -> None:
    core = three()
    assert rate(core, pool) == 12.0
    other = DASHBOARD if pool is not DASHBOARD else EXPLORATION
    run(core, other, 3)
    assert rate(core, pool) == 9.0


@pytest.mark.parametrize(("pool", "seats"), [(DASHBOARD, 9.0), (EXPLORATION, 8.0), (JOB, 7.0)])
def test_a_pool_does_not_count_on_what_is_kept_for_others(pool: PoolName, seats: float) -> None:
    assert rate(three(lendable=0.5), pool) == seats  # half of what they own: three, two and one


@pytest.mark.parametrize(("pool", "seats"), [(DASHBOARD, 6.0), (EXPLORATION, 4.0), (JOB, 3.0)])
def test_pools_that_wait_divide_the_seats_by_share(pool: PoolName, seats: float) -> None:
    core = three()
    other = EXPLORATION if pool is DASHBOARD else DASHBOARD
    run(core, other, 13)
    shares = SHARES[pool] + SHARES[other]
    assert rate(core, pool) == pytest.approx(max(seats, 12.0 * SHARES[pool] / shares))


def test_a_pool_counts_on_no_more_than_it_may_have_in_flight() -> None:
    assert rate(three(in_flight=5), DASHBOARD) == 5.0


def test_a_slow_backend_serves_less() -> None:
    assert rate(three(progress=0.5), DASHBOARD) == 6.0


def test_a_tenant_is_charged_for_what_starts_at_once() -> None:
    core = shared(2, {DASHBOARD: limits()})
    offer_all(core, [ask(f"a{n}", "a", FAR, takes(10.0)) for n in range(3)])
    core.offer(ask("b", "b", FAR, takes(10.0)), 0.0)
    assert admitted_ids(core.finish("a0", Outcome.SUCCESS, 10.0, 10.0)) == ["b"]


def test_a_pool_that_was_idle_is_charged_from_now_on() -> None:
    core = shared(2, {DASHBOARD: limits(), JOB: limits()})
    for number in range(5):
        core.offer(ask(f"{number}", deadline=FAR, predicted=takes(2.0), pool=JOB), 0.0)
        core.finish(f"{number}", Outcome.SUCCESS, 2.0, 0.0)
    backend = inside(core, JOB)
    assert backend.virtual == 8.0
    core.offer(ask("new", deadline=FAR, predicted=takes(2.0)), 0.0)
    assert core._book.pools[DASHBOARD].start == 10.0
    assert backend.virtual == 8.0


def test_a_pool_that_begins_to_wait_has_saved_nothing_up() -> None:
    core = shared(1, {DASHBOARD: limits(), JOB: limits()})
    for number in range(5):
        core.offer(ask(f"{number}", deadline=FAR, predicted=takes(2.0), pool=JOB), 0.0)
        if number < 4:
            core.finish(f"{number}", Outcome.SUCCESS, 2.0, 0.0)
    core.offer(ask("waits", deadline=FAR, predicted=takes(2.0)), 0.0)
    assert core._book.pools[DASHBOARD].start == inside(core, JOB).virtual == 8.0
