"""What a backend tells the core, and the core its limit policy: signals, leases, ticks, and work done elsewhere."""

from __future__ import annotations

import math

import pytest

from broker.domain.pool import BackendLimits, PoolName
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.limit import StaticLimit
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import Admitted, Outcome, Pressure, Queued, Signal
from tests.support.scheduling import (
    DASHBOARD,
    JOB,
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

FAR = 1e6


def busy(policy: Adjustable, waiting: int = 5) -> Scheduler:
    core = shared(policy.limit, {DASHBOARD: limits(), JOB: limits(1, share=0.0)}, policy=policy)
    offer_all(core, [ask(str(n), str(n), FAR, takes(1.0)) for n in range(policy.limit + waiting)])
    return core


class Following(StaticLimit):
    """The static limit with one thing to decide, as in the simulator's rivals."""

    def __init__(self) -> None:
        super().__init__(1)
        self.due: float | None = None

    def started(self, id: str, predicted: float, seats: int, now: float) -> None:
        self.due = now + 1.0

    def ended(self, id: str, outcome: Outcome, seconds: float, now: float) -> None:
        self.due = None

    def tick(self, waiting: bool, now: float) -> None:
        self.limit, self.due = 2, now + 1.0

    def next_tick(self) -> float | None:
        return self.due


def test_a_policy_made_from_the_static_one_hears_and_decides_like_any_other() -> None:
    spec = BackendSpec("db", (DASHBOARD,), BackendLimits(1), Following())
    core = Scheduler({DASHBOARD: limits()}, 7, [spec])
    core.offer(ask("1", deadline=FAR), 0.0)
    core.offer(ask("2", deadline=FAR), 0.0)
    assert admitted_ids(core.tick(1.0)) == ["2"]
    assert core.next_wakeup() == 2.0
    core.finish("1", Outcome.SUCCESS, 1.0, 1.5)
    assert core.next_wakeup() is None


def test_the_policy_hears_of_everything_that_runs_on_its_seats() -> None:
    policy = Adjustable(2)
    core = busy(policy, 1)
    core.offer(ask("own", "x", FAR, takes(7.0), JOB), 0.5)
    core.finish("0", Outcome.IGNORED, 0.75, 1.0)
    core.cancel("1", 3.0)
    core.finish("own", Outcome.SUCCESS, 1.0, 3.0)
    core.cancel("2", 4.5)
    assert policy.heard == [
        ("started", "0", 1.0, 1, 0.0),
        ("started", "1", 1.0, 1, 0.0),
        ("ended", "0", Outcome.IGNORED, 0.75, 1.0),
        ("started", "2", 1.0, 1, 1.0),
        ("ended", "1", Outcome.DROPPED, 3.0, 3.0),
        ("ended", "2", Outcome.DROPPED, 3.5, 4.5),
    ]


@pytest.mark.parametrize("waiting", [0, 1])
def test_the_policy_ticks_when_it_is_due_and_hears_whether_anybody_waits(waiting: int) -> None:
    policy = Adjustable(1, due=2.0)
    core = busy(policy, waiting)
    policy.heard.clear()
    assert core.next_wakeup() == (0.25 if waiting else 2.0)
    core.tick(1.99)
    assert policy.heard == []
    core.tick(2.0)
    assert policy.heard == [("tick", bool(waiting), 2.0)]


def test_one_pool_that_waits_is_enough_to_say_so() -> None:
    policy = Adjustable(1, due=2.0)
    core = shared(1, {DASHBOARD: limits(), JOB: limits()}, policy=policy)
    offer_all(core, [ask(name, name, FAR, takes(1.0), JOB) for name in ("x", "y")])
    core.tick(2.0)
    assert policy.heard[-1] == ("tick", True, 2.0)


def test_a_waiter_of_a_pool_outside_says_nothing_about_the_shared_seats() -> None:
    policy = Adjustable(1, due=2.0)
    core = busy(policy, 0)
    offer_all(core, [ask(name, name, FAR, takes(1.0), JOB) for name in ("x", "y")])
    policy.heard.clear()
    core.tick(2.0)
    assert policy.heard == [("tick", False, 2.0)]


def test_a_signal_acts_at_once() -> None:
    policy = Adjustable(2)
    core = busy(policy)
    policy.limit = 4
    assert admitted_ids(core.signal("db", Signal.RECOVERED, 1.0)) == ["2", "3"]
    assert ("signal", Signal.RECOVERED, 1.0) in policy.heard
    policy.limit = 1
    assert core.signal("db", Signal.OUT_OF_MEMORY, 2.0) == ()
    assert core.signal("db", Pressure(cpu=0.5), 2.0) == ()
    assert core.backends()[0].limit == 1
    with pytest.raises(KeyError):
        core.signal("unknown", Signal.RECOVERED, 1.0)


def test_a_lease_bounds_the_seats_and_its_end_frees_them() -> None:
    core = busy(Adjustable(4), 6)
    assert core.lease("db", 2, 1.0) == ()
    assert core.backends()[0].limit == 2
    assert core.loads()[0].seat_limit == 2
    for number in range(2):
        assert core.finish(str(number), Outcome.SUCCESS, 1.0, 1.0) == ()
    assert admitted_ids(core.finish("2", Outcome.SUCCESS, 1.0, 1.0)) == ["4"]
    assert admitted_ids(core.lease("db", 3, 2.0)) == ["5"]
    assert admitted_ids(core.lease("db", None, 3.0)) == ["6"]
    assert core.lease("db", 99, 3.0) == ()
    assert core.backends()[0].limit == 4
    with pytest.raises(KeyError):
        core.lease("unknown", 1, 1.0)


def test_without_any_seat_requests_with_time_wait_and_others_are_refused() -> None:
    core = busy(Adjustable(1), 0)
    core.lease("db", 0, 0.0)
    assert core.finish("0", Outcome.SUCCESS, 1.0, 1.0) == ()
    endless = only(core.offer(ask("endless", deadline=math.inf), 1.0))
    assert isinstance(endless, Queued)
    assert (endless.expected_wait, endless.until) == (math.inf, math.inf)
    assert not isinstance(only(core.offer(ask("bounded", deadline=100.0), 1.0)), Queued)
    assert admitted_ids(core.lease("db", 1, 5.0)) == ["endless"]


def test_a_wait_that_nobody_could_foretell_teaches_nothing() -> None:
    core = busy(Adjustable(1), 0)
    core.lease("db", 0, 0.0)
    core.offer(ask("endless", deadline=math.inf), 0.0)
    core.finish("0", Outcome.SUCCESS, 1.0, 1.0)
    core.lease("db", None, 9.0)
    decision = only(core.offer(ask("next", "n", math.inf, takes(1.0)), 9.0))
    assert isinstance(decision, Queued)
    assert decision.expected_wait == 1.0


def test_work_done_elsewhere_counts_against_a_tenant() -> None:
    core = busy(Adjustable(1), 0)
    offer_all(core, [ask(name, name[0], FAR, takes(1.0)) for name in ("a1", "a2", "b1", "b2", "c1")])
    core.charge(DASHBOARD, "a", 5.0, 0.0)
    order, running = [], "0"
    for second in range(5):
        running = core.finish(running, Outcome.SUCCESS, 1.0, second + 1.0)[0].id
        order.append(running)
    assert order == ["b1", "c1", "b2", "a1", "a2"]
    shares = {t.tenant: t.share for t in core.state(5.0)[0].tenants}
    assert shares["a"] > shares["b"]


def test_pools_without_a_backend_have_seats_of_their_own() -> None:
    core = scheduler(in_flight=2)
    assert core.backends() == ()
    assert core.loads()[0].seat_limit == 2


def test_a_static_limit_never_changes_its_mind() -> None:
    policy = StaticLimit(3)
    policy.started("1", 1.0, 1, 0.0)
    policy.ended("1", Outcome.SUCCESS, 1.0, 1.0)
    policy.tick(waiting=True, now=1.0)
    policy.signal(Signal.OUT_OF_MEMORY, 1.0)
    assert (policy.limit, policy.wished, policy.progress, policy.next_tick()) == (3, 3, 1.0, None)


def test_admissions_tell_the_limit_of_their_instant() -> None:
    policy = Adjustable(2)
    core = busy(policy, 1)
    policy.limit = 7
    core.signal("db", Signal.RECOVERED, 1.0)
    decision = only(core.offer(ask("x", "x", FAR), 1.0))
    assert isinstance(decision, Admitted)
    assert decision.limit == 7
    assert decision.pool is PoolName.DASHBOARD
