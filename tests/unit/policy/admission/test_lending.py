"""Seats of one backend: whose they are, who may borrow them, and how they come back."""

from __future__ import annotations

import math
import random

import pytest

from broker.domain.pool import BackendLimits, PoolLimits, PoolName
from broker.policy.admission.backend import Backend, BackendSpec
from broker.policy.admission.fair_queue import Entry, FairQueue
from broker.policy.admission.limit import StaticLimit
from broker.policy.admission.pool import Pool
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import Admitted, Outcome, PoolLoad, Quantiles, Queued, Tuning
from tests.support.scheduling import (
    DASHBOARD,
    EXPLORATION,
    JOB,
    UNKNOWN,
    Adjustable,
    admitted_ids,
    ask,
    limits,
    offer_all,
    shared,
    takes,
)

FAR = 1e6
QUICK, LONG = takes(1.0), takes(10.0)


def used(core: Scheduler) -> dict[PoolName, int]:
    return {load.pool: load.seats_used for load in core.loads()}


def fill(core: Scheduler, pool: PoolName, count: int, predicted: Quantiles = QUICK) -> list[str]:
    """Offers so many requests of different tenants; the ids of those that were admitted."""
    names = [f"{pool.value}-{number}" for number in range(count)]
    asked = [ask(name, name, FAR, predicted, pool) for name in names]
    return [d.id for d in offer_all(core, asked) if isinstance(d, Admitted)]


def three(seats: int, **all_of_them: float) -> Scheduler:
    """The pools with the usual shares."""
    shares = {DASHBOARD: 5.0, EXPLORATION: 3.0, JOB: 2.0}
    return shared(seats, {name: limits(share=share, **all_of_them) for name, share in shares.items()})  # type: ignore[arg-type]  # floats


def test_seats_are_owned_by_share() -> None:
    assert [load.seat_limit for load in three(20).loads()] == [10, 6, 4]


@pytest.mark.parametrize(
    ("seats", "owned"),
    [(1, [1, 1, 1]), (2, [1, 1, 1]), (3, [2, 1, 1]), (4, [2, 1, 1]), (5, [2, 2, 1]), (6, [3, 2, 1]),
     (7, [4, 2, 1]), (8, [4, 2, 2])],
)  # fmt: skip
def test_small_limits_leave_every_pool_a_seat_of_its_own(seats: int, owned: list[int]) -> None:
    core = three(seats, lendable=0.0)
    assert [load.seat_limit for load in core.loads()] == owned
    for pool in (DASHBOARD, EXPLORATION, JOB):
        alone = three(seats, lendable=0.0)
        assert 1 <= len(fill(alone, pool, 20)) <= seats


@pytest.mark.parametrize("seats", range(1, 9))
def test_a_backlog_in_every_pool_uses_every_seat_and_no_more(seats: int) -> None:
    core = three(seats, lendable=0.0)
    running = [fill(core, pool, 10) for pool in (JOB, EXPLORATION, DASHBOARD)]
    assert sum(map(len, running)) == sum(used(core).values()) == seats
    assert core.backends()[0].seats_used == seats


def test_an_idle_backend_lends_everything_that_may_be_lent() -> None:
    assert len(fill(three(20), EXPLORATION, 30)) == 20


@pytest.mark.parametrize(
    ("lendable", "kept"), [(1.0, 0), (0.8, 2), (0.5, 5), (0.0, 10)]  # of the ten seats of the dashboards
)  # fmt: skip
def test_what_is_not_lendable_stays_free(lendable: float, kept: int) -> None:
    core = shared(20, {DASHBOARD: limits(share=1.0, lendable=lendable), JOB: limits(share=1.0)})
    assert len(fill(core, JOB, 30)) == 20 - kept
    assert len(fill(core, DASHBOARD, 30)) == kept


def test_reserved_seats_are_never_lent() -> None:
    core = shared(20, {DASHBOARD: limits(reserved=3), JOB: limits()})
    assert len(fill(core, JOB, 30)) == 17
    assert len(fill(core, DASHBOARD, 1)) == 1
    # One of the three is in use; two stay free for the dashboards.
    assert used(core) == {DASHBOARD: 1, JOB: 17}
    assert admitted_ids(core.finish("job-0", Outcome.SUCCESS, 1.0, 1.0)) == ["job-17"]


def test_a_pool_that_uses_its_own_seats_keeps_no_others_free() -> None:
    core = shared(20, {DASHBOARD: limits(reserved=3), JOB: limits()})
    assert len(fill(core, DASHBOARD, 3)) == 3
    assert len(fill(core, JOB, 30)) == 17


def test_seats_are_kept_free_up_to_what_is_owned_and_never_the_last_one() -> None:
    reserved = {DASHBOARD: limits(reserved=50), JOB: limits(reserved=50)}
    assert len(fill(shared(2, reserved), JOB, 5)) == 1
    assert len(fill(shared(1, reserved), JOB, 5)) == 1
    assert len(fill(shared(1, reserved), DASHBOARD, 5)) == 1
    assert len(fill(shared(10, reserved), JOB, 50)) == 5


def test_a_pool_alone_keeps_nothing_from_itself() -> None:
    assert len(fill(shared(6, {DASHBOARD: limits(reserved=3, lendable=0.0, borrow=0.0)}), DASHBOARD, 9)) == 6


def test_long_work_borrows_nothing() -> None:
    core = shared(20, {DASHBOARD: limits(reclaim=2.0), JOB: limits()})
    assert len(fill(core, JOB, 30, LONG)) == 10
    assert isinstance(core.offer(ask("bound", "x", FAR, takes(2.0), JOB), 0.0)[0], Admitted)
    assert isinstance(core.offer(ask("beyond", "x", FAR, takes(2.01), JOB), 0.0)[0], Queued)


def test_work_of_which_nothing_is_known_borrows_nothing() -> None:
    core = shared(20, {DASHBOARD: limits(), JOB: limits()})
    assert len(fill(core, JOB, 30, UNKNOWN)) == 10


def test_what_was_learned_lets_work_without_a_prediction_borrow() -> None:
    core = shared(20, {DASHBOARD: limits(reclaim=2.0), JOB: limits()})
    core.offer(ask("first", pool=JOB), 0.0)
    core.finish("first", Outcome.SUCCESS, 0.6, 0.6)  # three times as much, 1.8 s, is below the bound
    assert len(fill(core, JOB, 30, UNKNOWN)) == 20


def test_borrowing_is_capped_in_multiples_of_what_is_owned() -> None:
    core = shared(20, {DASHBOARD: limits(share=3.0), EXPLORATION: limits(share=1.0, borrow=2.0)})
    assert len(fill(core, EXPLORATION, 30)) == 10
    assert used(core) == {DASHBOARD: 0, EXPLORATION: 10}


def test_a_borrowed_seat_comes_back_when_its_work_ends() -> None:
    core = shared(4, {DASHBOARD: limits(), JOB: limits()})
    fill(core, JOB, 8)
    fill(core, DASHBOARD, 3)
    assert used(core) == {DASHBOARD: 0, JOB: 4}
    started = [core.finish(f"job-{n}", Outcome.SUCCESS, 1.0, 1.0)[0].id for n in range(3)]
    # By fair queuing of the pools: dashboards have had nothing yet, so the first two seats are theirs.
    assert started[:2] == ["dashboard-0", "dashboard-1"]


def test_pools_with_backlogs_divide_the_seats_by_share_over_time() -> None:
    core = shared(5, {DASHBOARD: limits(share=3.0), JOB: limits(share=2.0)})
    running = fill(core, JOB, 90) + fill(core, DASHBOARD, 90)
    served = {DASHBOARD: 0, JOB: 0}
    now = 0.0
    for _ in range(100):
        now += 0.2
        for decision in core.finish(running.pop(0), Outcome.SUCCESS, 1.0, now):
            assert isinstance(decision, Admitted)
            served[decision.pool] += 1
            running.append(decision.id)
    assert served[DASHBOARD] == pytest.approx(60, abs=5)


def test_a_pool_that_was_idle_has_saved_nothing_up() -> None:
    core = shared(2, {DASHBOARD: limits(), JOB: limits()})
    running = fill(core, JOB, 60)
    now = 0.0
    for _ in range(20):
        now += 0.5
        running += admitted_ids(core.finish(running.pop(0), Outcome.SUCCESS, 1.0, now))
    fill(core, DASHBOARD, 30)
    order = []
    for _ in range(12):
        now += 0.5
        started = admitted_ids(core.finish(running.pop(0), Outcome.SUCCESS, 1.0, now))
        running += started
        order += [name.split("-")[0] for name in started]
    assert 5 <= order.count("job") <= 7


def test_work_that_took_longer_than_predicted_is_charged_to_the_pool() -> None:
    core = shared(1, {DASHBOARD: limits(), JOB: limits()})
    fill(core, JOB, 3)
    fill(core, DASHBOARD, 6)
    order = [admitted_ids(core.finish("job-0", Outcome.SUCCESS, 4.0, 4.0))[0]]
    now = 4.0
    while len(order) < 6:
        now += 1.0
        order += admitted_ids(core.finish(order[-1], Outcome.SUCCESS, 1.0, now))
    assert order[:4] == [f"dashboard-{n}" for n in range(4)]
    assert "job-1" in order


def test_a_pool_is_charged_in_work_over_its_share_and_corrected_within_bounds() -> None:
    core = shared(4, {DASHBOARD: limits(share=4.0), JOB: limits()}, tuning=Tuning(max_debt=60.0))
    pool = core._book.pools[DASHBOARD]  # its tag shows outside only beside other pools
    tags = []
    for name, seconds in (("1", 10.0), ("2", 1000.0), ("3", -1000.0)):
        core.offer(ask(name, deadline=FAR, predicted=takes(4.0)), 0.0)
        tags.append(pool.start)
        core.finish(name, Outcome.SUCCESS, seconds, 0.0)
        tags.append(pool.start)
    assert tags == [1.0, 2.5, 3.5, 2.5 + 15.0, 18.5, 17.5 - 15.0]


def test_more_seats_start_waiters_at_once_and_fewer_let_what_runs_end() -> None:
    policy = Adjustable(2, due=1.0)
    core = shared(2, {DASHBOARD: limits(), JOB: limits()}, policy=policy)
    fill(core, JOB, 6)
    policy.limit = 4
    assert admitted_ids(core.tick(1.0)) == ["job-2", "job-3"]
    policy.limit = 1
    assert core.tick(2.0) == ()
    (backend,) = core.backends()
    assert (backend.limit, backend.seats_used) == (1, 4)
    for n in range(3):
        assert core.finish(f"job-{n}", Outcome.SUCCESS, 1.0, 3.0) == ()
    assert admitted_ids(core.finish("job-3", Outcome.SUCCESS, 1.0, 3.0)) == ["job-4"]


def test_a_pool_outside_the_shares_has_seats_of_its_own() -> None:
    admin = limits(2, share=0.0)
    core = shared(4, {DASHBOARD: limits(), PoolName.ADMIN: admin})
    fill(core, DASHBOARD, 9)
    assert len(fill(core, PoolName.ADMIN, 5, LONG)) == 2
    assert core.loads()[1] == PoolLoad(PoolName.ADMIN, 2, 2, 3)
    assert core.backends()[0].seats_used == 4
    assert admitted_ids(core.finish("admin-0", Outcome.SUCCESS, 1.0, 1.0)) == ["admin-2"]


def test_requests_in_flight_are_capped_whatever_is_free() -> None:
    core = shared(20, {DASHBOARD: limits(), EXPLORATION: limits(3)})
    assert len(fill(core, EXPLORATION, 9)) == 3
    assert len(fill(core, DASHBOARD, 20)) == 17


def test_the_state_shows_what_is_lent() -> None:
    core = three(20)
    fill(core, EXPLORATION, 12)
    lent = {state.name: state.seats_lent for state in core.state(0.0)}
    assert lent == {DASHBOARD: 6, EXPLORATION: 0, JOB: 0}  # by whoever has most to spare


def test_the_demand_of_a_backend_counts_who_runs_and_who_waits() -> None:
    core = shared(4, {DASHBOARD: limits(), JOB: limits()})
    fill(core, JOB, 6)
    (backend,) = core.backends()
    assert backend.demand == ((DASHBOARD, 0), (JOB, 6))
    assert (backend.name, backend.limit, backend.wished, backend.nominal) == ("db", 4, 4, 4)


@pytest.mark.parametrize("progress", [1.0, 0.5])
def test_waits_follow_the_seats_that_a_pool_can_count_on(progress: float) -> None:
    pools = {DASHBOARD: limits(share=3.0, wait=1.0), JOB: limits(share=1.0, wait=1.0)}
    core = shared(8, pools, policy=Adjustable(8, progress))
    fill(core, JOB, 8)
    decision = core.offer(ask("x", "x", FAR, QUICK, JOB), 0.0)[0]
    assert isinstance(decision, Queued)
    assert decision.expected_wait == pytest.approx(
        1.0 / 8 / progress
    )  # alone: one request's end on all seats
    fill(core, DASHBOARD, 1)  # now it competes for three quarters of the seats
    decision = core.offer(ask("y", "y", FAR, QUICK, JOB), 0.0)[0]
    assert isinstance(decision, Queued)
    assert decision.expected_wait == pytest.approx(2.0 / 2 / progress)


def test_limits_of_a_backend_have_sane_defaults() -> None:
    plain = PoolLimits(5, 10, 1, 1)
    assert (plain.share, plain.lendable, plain.reclaim, plain.reserved) == (1.0, 0.5, 2.0, 0)
    assert (BackendLimits(5).floor, BackendLimits(5).ceiling, BackendLimits(5).memory) == (2, 400, 0)


@pytest.mark.parametrize("seed", range(6))
def test_the_longest_loan_is_what_fits(seed: int) -> None:
    """What a search passes over by one bound is what would be looked at one by one and not lent."""
    draw = random.Random(seed)
    pools = {
        name: Pool(
            name,
            limits(share=share, reclaim=draw.choice([1.0, 2.0]), borrow=draw.choice([1.5, math.inf])),
            Tuning(),
        )
        for name, share in {DASHBOARD: 5.0, EXPLORATION: 3.0, JOB: 2.0}.items()
    }
    backend = Backend(BackendSpec("db", tuple(pools), BackendLimits(12), StaticLimit(12)), pools, Tuning())
    seen = set()
    for _ in range(200):
        for pool in pools.values():
            pool.seats_used = draw.randrange(7)
        backend.used = sum(pool.seats_used for pool in pools.values())
        pool = draw.choice(list(pools.values()))
        entry = Entry(ask("one", "tenant", FAR), FairQueue(60.0).flow("tenant", 1.0), (0, 0.0, 0), 0.0)
        entry.p90 = draw.choice([0.5, 1.5, 5.0])
        passed, fit = entry.p90 > backend.longest(pool), backend.fit(pool, entry)
        assert passed == (fit == "not_lent")
        seen.add((passed, fit))
    assert seen == {(True, "not_lent"), (False, "yes"), (False, "no_seat")}
