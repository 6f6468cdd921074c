"""Start-time fair queuing by predicted work: shares, weights, debts, corrections."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from broker.policy.admission.fair_queue import FORGET_ABOVE, FairQueue
from tests.support.flows import backlog, entry, serve


def served_work(queue: FairQueue, turns: int) -> Counter[str]:
    done: Counter[str] = Counter()
    for _ in range(turns):
        turn = serve(queue)
        done[turn.flow.name] += turn.cost  # type: ignore[assignment]  # seconds, not counts
    return done


def test_flows_have_equal_work_and_not_equally_many_turns() -> None:
    queue = FairQueue(60.0)
    backlog(queue, "long", 50, cost=4.0)
    backlog(queue, "short", 200, cost=1.0)
    done = served_work(queue, 100)
    assert abs(done["long"] - done["short"]) <= 4.0


@pytest.mark.parametrize("weight", [0.5, 2.0, 3.0])
def test_work_is_divided_by_weight(weight: float) -> None:
    queue = FairQueue(60.0)
    backlog(queue, "heavy", 400, weight=weight)
    backlog(queue, "plain", 400)
    done = served_work(queue, 240)
    assert done["heavy"] / done["plain"] == pytest.approx(weight, rel=0.03)


def test_the_difference_between_two_flows_stays_below_one_request_of_each() -> None:
    queue = FairQueue(60.0)
    rng = random.Random(3)
    for name in ("a", "b", "c"):
        flow = queue.flow(name, 1.0)
        for _ in range(300):
            queue.push(entry(flow, rng.choice([0.1, 1.0, 5.0])))
    done: Counter[str] = Counter(a=0, b=0, c=0)
    for _ in range(300):
        turn = serve(queue)
        done[turn.flow.name] += turn.cost  # type: ignore[assignment]  # seconds, not counts
        assert max(done.values()) - min(done.values()) <= 2 * 5.0


def test_virtual_time_follows_the_flow_that_is_served_and_never_goes_back() -> None:
    queue = FairQueue(60.0)
    backlog(queue, "a", 5, cost=3.0)
    backlog(queue, "b", 5, cost=2.0, weight=2.0)
    seen = [queue.virtual]
    while queue.waiting_flows:
        serve(queue)
        seen.append(queue.virtual)
    assert seen == sorted(seen)
    assert seen[-1] == 12.0  # the last start tag is that of the fifth of a


def test_a_flow_that_comes_back_has_saved_nothing_up() -> None:
    queue = FairQueue(60.0)
    early = backlog(queue, "idle", 1)
    serve(queue)
    backlog(queue, "busy", 100)
    served_work(queue, 50)
    for _ in range(10):
        queue.push(entry(early, 1.0))
    assert early.start == queue.virtual
    done = served_work(queue, 10)
    assert abs(done["idle"] - done["busy"]) <= 1.0


def test_a_flow_that_has_had_more_than_its_part_waits_even_if_it_was_idle_for_a_moment() -> None:
    queue = FairQueue(60.0)
    greedy = queue.flow("greedy", 1.0)
    queue.charge(greedy, 9.5)
    backlog(queue, "other", 20)
    queue.push(entry(greedy, 1.0))
    assert [serve(queue).flow.name for _ in range(11)] == ["other"] * 10 + ["greedy"]


def test_equal_tags_are_served_in_the_order_in_which_flows_came() -> None:
    queue = FairQueue(60.0)
    for name in ("c", "a", "b"):
        backlog(queue, name, 2)
    assert [serve(queue).flow.name for _ in range(6)] == ["c", "a", "b", "c", "a", "b"]


def test_within_a_flow_the_rank_decides() -> None:
    queue = FairQueue(60.0)
    flow = queue.flow("a", 1.0)
    entries = [entry(flow, 1.0, urgency) for urgency in (3.0, 1.0, 2.0, 1.0)]
    for each in entries:
        queue.push(each)
    assert [serve(queue) for _ in range(4)] == [entries[1], entries[3], entries[2], entries[0]]


def test_a_charge_moves_a_flow_that_waits_and_its_place() -> None:
    queue = FairQueue(60.0)
    first, second = backlog(queue, "a", 2), backlog(queue, "b", 2)
    queue.charge(first, 1.5)
    assert (first.start, second.start, queue.virtual) == (1.5, 0.0, 0.0)
    assert [serve(queue).flow.name for _ in range(4)] == ["b", "b", "a", "a"]


def test_a_charge_to_a_flow_with_a_weight_counts_for_less() -> None:
    queue = FairQueue(60.0)
    flow = queue.flow("a", 4.0)
    queue.charge(flow, 2.0)
    queue.charge(flow, 2.0)
    assert (flow.start, queue.virtual) == (1.0, 0.5)


def test_what_a_prediction_was_wrong_is_charged_or_given_back() -> None:
    queue = FairQueue(60.0)
    flow = queue.flow("a", 2.0)
    queue.charge(flow, 4.0)
    queue.correct(flow, 4.0, 10.0)
    assert flow.start == 5.0
    queue.correct(flow, 10.0, 1.0)
    assert flow.start == 0.5


def test_a_correction_moves_a_waiting_flow_to_its_place() -> None:
    queue = FairQueue(60.0)
    first, _ = backlog(queue, "a", 3), backlog(queue, "b", 3)
    serve(queue)
    queue.correct(first, 1.0, 2.5)
    assert [serve(queue).flow.name for _ in range(5)] == ["b", "b", "b", "a", "a"]


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_debt_and_credit_are_bounded(weight: float) -> None:
    queue = FairQueue(10.0)
    flow = queue.flow("a", weight)
    queue.correct(flow, 0.0, 1000.0)
    assert flow.start == 10.0 / weight
    queue.correct(flow, 1000.0, 0.0)
    assert flow.start == -10.0 / weight


def test_credit_while_waiting_is_bounded_when_it_is_used() -> None:
    queue = FairQueue(10.0)
    lender, _ = backlog(queue, "a", 60), backlog(queue, "b", 60)
    served_work(queue, 40)
    queue.correct(lender, 1000.0, 0.0)
    assert lender.start == queue.virtual - 10.0
    before = queue.virtual
    assert [serve(queue).flow.name for _ in range(10)] == ["a"] * 10
    assert queue.virtual == before
    assert lender.start == before


def test_a_request_that_leaves_takes_only_its_own_work_along() -> None:
    queue = FairQueue(60.0)
    flow, other = queue.flow("a", 2.0), queue.flow("b", 1.0)
    stays, goes, third = entry(flow, 1.0), entry(flow, 2.0), entry(other, 4.0)
    for each in (stays, goes, third):
        queue.push(each)
    assert (queue.work, flow.work, queue.waiting_flows) == (7.0, 3.0, 2)
    queue.remove(goes)
    assert (queue.work, flow.work, queue.waiting_flows) == (5.0, 1.0, 2)
    queue.remove(stays)
    assert (queue.work, flow.work, queue.waiting_flows) == (4.0, 0.0, 1)
    assert flow.start == 0.0
    queue.remove(third)
    assert (queue.work, queue.waiting_flows) == (0.0, 0)


def test_sums_are_nothing_again_when_nobody_waits() -> None:
    queue = FairQueue(60.0)
    rng = random.Random(5)
    for _ in range(200):
        flow = queue.flow(f"t{rng.randrange(5)}", rng.choice([0.1, 0.7, 1.3]))
        queue.push(entry(flow, rng.random()))
    for _ in range(199):
        serve(queue)
    (left,) = queue.first(2)
    assert queue.work == pytest.approx(left.work)
    serve(queue)
    assert (queue.work, left.work) == (0.0, 0.0)


def test_flows_that_say_nothing_any_more_are_forgotten() -> None:
    queue = FairQueue(60.0)
    waiting, running = backlog(queue, "waiting", 1), queue.flow("running", 1.0)
    running.seats_used = 1
    indebted = queue.flow("indebted", 1.0)
    queue.correct(indebted, 0.0, 5.0)
    for number in range(FORGET_ABOVE - 3):
        queue.flow(f"t{number}", 1.0)
    assert len(queue.flows) == FORGET_ABOVE
    newest = queue.flow("newest", 1.0)
    assert queue.flows == {"waiting": waiting, "running": running, "indebted": indebted, "newest": newest}
    assert queue.flow("newest", 1.0) is newest
    assert queue.flow("waiting", 1.0) is waiting


def test_sweeping_does_not_come_back_for_every_new_flow() -> None:
    queue = FairQueue(60.0)
    for number in range(FORGET_ABOVE + 1):
        backlog(queue, f"t{number}", 1)
    queue.flow("idle", 1.0)
    for number in range(FORGET_ABOVE - 3):
        backlog(queue, f"u{number}", 1)
    assert "idle" in queue.flows
    backlog(queue, "last", 1)
    queue.flow("one more", 1.0)
    assert "idle" not in queue.flows


def test_the_crowd_is_the_longest_flow_and_its_least_urgent_request() -> None:
    queue = FairQueue(60.0)
    assert queue.crowd() is None
    backlog(queue, "a", 2)
    backlog(queue, "b", 1)
    flow = queue.flow("c", 1.0)
    urgent, lax = entry(flow, 1.0, 1.0), entry(flow, 1.0, 2.0)
    queue.push(lax)
    queue.push(urgent)
    assert queue.crowd() is lax  # of two equally long ones the later pays


def test_the_oldest_is_found_in_whatever_flow_it_waits() -> None:
    queue = FairQueue(60.0)
    assert queue.oldest() is None
    for name, since in (("a", 4.0), ("b", 2.0), ("a", 3.0)):
        each = entry(queue.flow(name, 1.0), 1.0)
        each.since = since
        queue.push(each)
    assert queue.oldest() == 2.0


def test_a_flow_whose_predictions_are_wrong_is_charged_with_pessimism() -> None:
    flow = FairQueue(60.0).flow("a", 1.0)
    seen = [flow.pessimistic]
    for actual, times in ((10.0, 10), (1.0, 30), (0.1, 20)):
        for _ in range(times):
            flow.learn(1.0, actual)
        seen.append(flow.pessimistic)
    assert seen == [False, True, False, True]
    error = flow.error
    flow.learn(0.0, 5.0)
    flow.learn(5.0, 0.0)
    assert flow.error == error


def test_work_that_begins_at_once_uses_no_credit_of_an_idle_flow() -> None:
    queue = FairQueue(60.0)
    idle = queue.flow("idle", 2.0)
    backlog(queue, "busy", 9)
    served_work(queue, 6)
    queue.charge(idle, 3.0)
    assert (queue.virtual, idle.start) == (5.0, 6.5)


def test_work_that_begins_at_once_uses_the_credit_of_a_flow_that_waits() -> None:
    queue = FairQueue(60.0)
    waiting = backlog(queue, "waiting", 9)
    backlog(queue, "busy", 9)
    served_work(queue, 6)
    queue.correct(waiting, 10.0, 8.0)
    before = waiting.start
    assert before < queue.virtual
    queue.charge(waiting, 0.5)
    assert waiting.start == before + 0.5


def test_credit_is_bounded_in_work_whatever_the_weight() -> None:
    queue = FairQueue(10.0)
    heavy = backlog(queue, "heavy", 20, weight=2.0)
    backlog(queue, "other", 60)
    queue.correct(heavy, 1000.0, 0.0)
    queue.virtual = 100.0
    served = serve(queue)
    assert served.flow is heavy
    assert heavy.start == 100.0 - 10.0 / 2.0 + 1.0 / 2.0
