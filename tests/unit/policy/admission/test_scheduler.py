"""The admission core at a pool of its own, decision by decision."""

import math

import pytest

from broker.policy.admission.scheduler import GRACE
from broker.policy.admission.values import (
    Admitted,
    Outcome,
    PoolLoad,
    Quantiles,
    Queued,
    RefusalReason,
    Refused,
    Stage,
    Tuning,
)
from tests.support.scheduling import DASHBOARD, admitted_ids, ask, only, refused, scheduler, takes


def test_a_free_seat_is_given_at_once() -> None:
    assert only(scheduler().offer(ask("1"), 0.0)) == Admitted("1", DASHBOARD, 0.0, 0.0, 1)


def test_a_free_seat_is_given_even_when_the_work_will_probably_take_too_long() -> None:
    decision = only(scheduler().offer(ask("1", deadline=1.0, predicted=Quantiles(0.5, 2.0, 9.0)), 0.0))
    assert isinstance(decision, Admitted)


def test_work_that_even_when_fast_misses_its_deadline_is_refused_without_a_hint() -> None:
    decision = refused(scheduler().offer(ask("1", deadline=1.0, predicted=Quantiles(1.1, 2.0, 9.0)), 0.0))
    assert (decision.reason, decision.stage) == (RefusalReason.DEADLINE_TOO_SHORT, Stage.ARRIVAL)
    assert (decision.limiting_factor, decision.limit, decision.pushback) == ("deadline", 1.0, None)


@pytest.mark.parametrize("deadline", [5.0, 4.0])
def test_a_deadline_that_has_passed_is_refused(deadline: float) -> None:
    assert refused(scheduler().offer(ask("1", deadline=deadline), 5.0)).limit == 0.0


def test_a_taken_seat_makes_the_next_wait_a_fraction_of_its_slack() -> None:
    core = scheduler(wait=0.25)
    core.offer(ask("1"), 0.0)
    decision = only(core.offer(ask("2", deadline=12.0, predicted=takes(2.0)), 0.0))
    # Its budget is a quarter of ten seconds; a multiple of it is waited before the promise is given up.
    assert decision == Queued("2", DASHBOARD, 2.0, GRACE * 2.5, 1)
    assert core.next_wakeup() == Tuning().hopeless_every


def test_slack_is_what_is_left_beside_the_third_quartile_of_the_work() -> None:
    core = scheduler(wait=0.2)
    core.offer(ask("1"), 0.0)
    decision = only(core.offer(ask("2", deadline=24.0, predicted=Quantiles(1.0, 2.0, 8.0)), 0.0))
    assert isinstance(decision, Queued)
    assert decision.until == GRACE * 4.0  # a fifth of 24 − √(2 × 8)
    assert decision.expected_wait == pytest.approx(0.3 * 1 + 0.4 * 2 + 0.3 * 8)  # the mean, by Swanson's rule


def test_no_wait_goes_beyond_the_last_instant_at_which_the_work_can_begin() -> None:
    core = scheduler(wait=1.0)
    core.offer(ask("1"), 0.0)
    decision = only(core.offer(ask("2", deadline=12.0, predicted=takes(2.0)), 0.0))
    assert isinstance(decision, Queued)
    assert decision.until == 10.0


def test_a_seat_that_becomes_free_goes_to_the_waiter() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.offer(ask("2", predicted=takes(1.0)), 0.0)
    decision = only(core.finish("1", Outcome.SUCCESS, 1.0, 1.5))
    assert decision == Admitted("2", DASHBOARD, 1.5, 1.0, 1)
    assert core.next_wakeup() is None


def test_a_wait_budget_that_is_used_up_ends_the_wait() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.offer(ask("2"), 0.0)
    end = GRACE * 2.5
    assert core.tick(end - 0.01) == ()
    decision = refused(core.tick(end))
    assert (decision.reason, decision.stage) == (RefusalReason.QUEUE_TIMEOUT, Stage.QUEUE)
    assert (decision.limiting_factor, decision.wait, decision.allowed_wait) == ("wait_budget", end, end)
    assert (decision.limit, decision.expected_wait) == (1, 0.0)
    assert decision.pushback is not None
    assert core.finish("1", Outcome.SUCCESS, 3.0, 3.0) == ()


def test_a_seat_is_not_given_to_somebody_whose_budget_has_ended_before_the_timer_came() -> None:
    core = scheduler()
    core.offer(ask("1", deadline=math.inf), 0.0)
    core.offer(ask("2"), 0.0)
    core.offer(ask("3", deadline=math.inf), 0.0)
    late, given = core.finish("1", Outcome.SUCCESS, 1.0, GRACE * 2.5)
    assert isinstance(late, Refused)
    assert (late.id, late.reason, late.stage) == ("2", RefusalReason.QUEUE_TIMEOUT, Stage.DISPATCH)
    assert isinstance(given, Admitted)
    assert given.id == "3"
    assert core.tick(9.0) == ()


def test_a_waiter_whose_deadline_leaves_no_time_for_the_work_is_told_so() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.offer(ask("2", deadline=4.0, predicted=takes(0.5)), 0.0)
    decision = refused(core.finish("1", Outcome.SUCCESS, 3.5, 3.5))
    assert (decision.reason, decision.stage) == (RefusalReason.DEADLINE_TOO_SHORT, Stage.DISPATCH)
    assert (decision.wait, decision.limit, decision.pushback) == (3.5, 0.5, None)


def test_a_promised_wait_beyond_the_budget_is_refused_at_arrival_with_the_excess_as_hint() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.finish("1", Outcome.SUCCESS, 8.0, 8.0)
    core.offer(ask("2", deadline=math.inf), 8.0)
    decision = refused(core.offer(ask("3", deadline=18.0), 8.0))
    assert (decision.reason, decision.stage) == (RefusalReason.OVERLOADED, Stage.ARRIVAL)
    assert (decision.limiting_factor, decision.limit) == ("wait_budget", 1)
    assert (decision.expected_wait, decision.allowed_wait) == (8.0, 2.5)
    assert decision.pushback is not None
    assert 5.5 * 0.8 <= decision.pushback <= 5.5 * 1.2


def test_a_promised_wait_as_long_as_the_budget_is_still_a_promise() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.finish("1", Outcome.SUCCESS, 2.5, 0.0)
    core.offer(ask("2"), 0.0)
    assert isinstance(only(core.offer(ask("3", deadline=10.0), 0.0)), Queued)


def test_work_that_just_fits_its_deadline_is_tried() -> None:
    decision = only(scheduler().offer(ask("1", deadline=1.0, predicted=Quantiles(1.0, 2.0, 9.0)), 0.0))
    assert isinstance(decision, Admitted)


def test_hints_are_bounded() -> None:
    core = scheduler()
    core.offer(ask("1", deadline=math.inf), 0.0)
    core.finish("1", Outcome.SUCCESS, 10_000.0, 10_000.0)
    core.offer(ask("2", deadline=math.inf), 10_000.0)
    decision = refused(core.offer(ask("3", deadline=10_010.0), 10_000.0))
    assert decision.pushback is not None
    assert decision.pushback <= Tuning().max_pushback * 1.2


def test_tenants_take_turns_and_each_keeps_its_order() -> None:
    core = scheduler()
    core.offer(ask("0", "z"), 0.0)
    for name, tenant in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c")):
        core.offer(ask(name, tenant), 0.0)
    order, current = [], "0"
    for step in range(1, 7):
        (current,) = admitted_ids(core.finish(current, Outcome.IGNORED, 0.1, step * 0.1))
        order.append(current)
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_the_expected_wait_counts_the_turns_of_other_tenants() -> None:
    core = scheduler(in_flight=2)
    for name in ("1", "2"):
        core.offer(ask(name, "z", math.inf), 0.0)
    for name in ("a1", "a2", "a3"):
        core.offer(ask(name, "a", math.inf), 0.0)
    core.finish("2", Outcome.SUCCESS, 2.0, 0.0)  # starts a1, and work takes two seconds from now on
    for name in ("a4", "a5"):
        core.offer(ask(name, "a", math.inf), 0.0)
    first = only(core.offer(ask("b1", "b", math.inf), 0.0))
    second = only(core.offer(ask("b2", "b", math.inf), 0.0))
    assert isinstance(first, Queued)
    assert isinstance(second, Queued)
    assert (
        1.0 <= first.expected_wait < second.expected_wait <= 4.0
    )  # half a request's end; b1, and turns of a


def test_a_tenant_over_its_own_bound_is_refused_as_over_quota() -> None:
    core = scheduler(tenant_queue=1)
    for name in ("1", "2"):
        core.offer(ask(name), 0.0)
    decision = refused(core.offer(ask("3"), 0.0))
    assert decision.reason is RefusalReason.TENANT_QUOTA
    assert (decision.limiting_factor, decision.limit) == ("tenant_queue", 1)
    assert isinstance(only(core.offer(ask("4", "b"), 0.0)), Queued)


def test_a_full_queue_makes_room_for_a_quiet_tenant_at_the_cost_of_the_noisiest() -> None:
    core = scheduler(queue=3)
    for name in ("1", "2", "3", "4"):
        core.offer(ask(name), 0.0)
    assert refused(core.offer(ask("5"), 0.0)).limiting_factor == "queue"
    queued, pushed_out = core.offer(ask("6", "b"), 1.0)
    assert isinstance(queued, Queued)
    assert isinstance(pushed_out, Refused)
    assert (pushed_out.id, pushed_out.stage, pushed_out.wait) == ("4", Stage.QUEUE, 1.0)
    assert refused(core.offer(ask("7", "b"), 1.0)).id == "7"  # both tenants would trade places for nothing
    assert core.loads()[0].queue_length == 3


def test_among_several_tenants_the_noisiest_pays() -> None:
    core = scheduler(queue=6)
    core.offer(ask("0", "z"), 0.0)
    for name, tenant in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("b3", "b"), ("c1", "c")):
        core.offer(ask(name, tenant), 0.0)
    _, pushed_out = core.offer(ask("d1", "d"), 0.0)
    assert pushed_out.id == "b3"


def test_a_waiter_that_leaves_makes_room_and_is_forgotten() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.offer(ask("2"), 0.0)
    assert core.cancel("2", 1.0) == ()
    assert core.next_wakeup() is None
    assert core.finish("1", Outcome.SUCCESS, 1.0, 1.0) == ()
    assert core.loads()[0] == PoolLoad(DASHBOARD, 1, 0, 0)


def test_an_id_that_waits_again_is_not_ended_by_its_earlier_budget() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.offer(ask("2"), 0.0)
    core.cancel("2", 1.0)
    core.offer(ask("2", deadline=math.inf), 2.0)
    assert core.tick(GRACE * 2.5) == ()
    assert core.loads()[0].queue_length == 1


def test_a_caller_that_leaves_while_it_runs_frees_its_seat() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.offer(ask("2"), 0.0)
    assert admitted_ids(core.cancel("1", 1.0)) == ["2"]
    assert core.cancel("1", 1.0) == ()


def test_an_id_in_use_is_refused_as_a_mistake_of_the_program() -> None:
    core = scheduler()
    for name in ("1", "2"):
        core.offer(ask(name), 0.0)
        with pytest.raises(ValueError, match="already waiting or running"):
            core.offer(ask(name), 0.0)
    with pytest.raises(KeyError):
        core.finish("3", Outcome.SUCCESS, 1.0, 1.0)


def test_exempt_requests_take_no_seat_even_while_draining() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.drain(0.0)
    assert isinstance(only(core.offer(ask("2", exempt=True), 0.0)), Admitted)
    assert core.loads()[0].seats_used == 1
    assert core.finish("2", Outcome.SUCCESS, 1.0, 1.0) == ()
    core.offer(ask("2", exempt=True), 1.0)
    assert core.cancel("2", 1.0) == ()
    assert core.state(1.0)[0].admitted_count == 3


def test_draining_refuses_waiters_and_newcomers_and_lets_work_end() -> None:
    core = scheduler()
    core.offer(ask("1"), 0.0)
    core.offer(ask("2"), 0.0)
    decision = refused(core.drain(1.0))
    assert (decision.id, decision.reason, decision.stage) == ("2", RefusalReason.DRAINING, Stage.QUEUE)
    assert (decision.wait, decision.pushback) == (1.0, 0.0)
    assert core.drain(1.0) == ()
    assert core.draining
    assert refused(core.offer(ask("3"), 1.0)).reason is RefusalReason.DRAINING
    assert core.finish("1", Outcome.SUCCESS, 1.0, 1.0) == ()
    assert core.next_wakeup() is None
