"""How much is served before a request: the estimate beside what really happens."""

from __future__ import annotations

import copy
import random

import pytest

from broker.policy.admission.fair_queue import FairQueue, Flow
from tests.support.flows import backlog, entry, numbers, serve


def simulated(queue: FairQueue, flow: Flow, urgency: float) -> float:
    """Work that is really served before one that joins now."""
    copied = copy.deepcopy(queue)
    joined = entry(copied.flow(flow.name, flow.weight), 1.0, urgency)
    copied.push(joined)
    done = 0.0
    while (served := serve(copied)) is not joined:
        done += served.work
    return done


def told_and_served(rng: random.Random) -> tuple[float, float]:
    queue = FairQueue(60.0)
    for name in "abcdefgh":
        flow = queue.flow(name, rng.choice([0.5, 1.0, 1.0, 2.0]))
        for _ in range(rng.randrange(12)):
            queue.push(entry(flow, rng.choice([0.5, 1.0, 2.0]), rng.random()))
    for _ in range(rng.randrange(sum(len(flow.waiters) for flow in queue.flows.values()))):
        serve(queue)
    flow = queue.flow(rng.choice("abcdefghi"), 1.0)
    urgency = rng.choice([rng.random(), 9.0])
    told = queue.ahead(flow, (0, urgency, next(numbers)))
    assert flow.work_before((0, urgency, 0)) <= told <= queue.work + 1e-9
    return told, simulated(queue, flow, urgency)


def test_the_work_ahead_is_about_what_is_served_first() -> None:
    rng = random.Random(11)
    told, served = zip(*(told_and_served(rng) for _ in range(120)), strict=True)
    assert sum(served) <= sum(told) <= 1.3 * sum(served)  # an estimate that errs to the careful side
    errors = [abs(a - b) for a, b in zip(told, served, strict=True)]
    assert sum(errors) <= 0.3 * sum(served)


@pytest.mark.parametrize("mine", [0, 1, 4, 9])
def test_the_work_ahead_is_exact_to_a_turn_of_each_beside_flows_that_wait_for_long(mine: int) -> None:
    queue = FairQueue(60.0)
    for name in "abcd":
        backlog(queue, name, 40)
    flow = backlog(queue, "mine", mine)
    told = queue.ahead(flow, (0, 9.0, next(numbers)))
    assert told == pytest.approx(simulated(queue, flow, 9.0), abs=4.0)


def test_the_work_ahead_counts_more_urgent_requests_of_the_own_flow_only() -> None:
    queue = FairQueue(60.0)
    flow = queue.flow("a", 1.0)
    for urgency, work in ((1.0, 5.0), (2.0, 7.0), (3.0, 11.0)):
        queue.push(entry(flow, 99.0, urgency, work))
    ranks = [(0, urgency, 0) for urgency in (0.5, 1.5, 2.5, 3.5)]
    assert [queue.ahead(flow, rank) for rank in ranks] == [0.0, 5.0, 12.0, 23.0]
    assert queue.ahead(queue.flow("b", 1.0), (0, 0.0, 0)) == 23.0 / 3  # the one turn that begins before


def test_the_work_ahead_of_a_newcomer_beside_long_queues_is_one_turn_of_each() -> None:
    queue = FairQueue(60.0)
    for name in "abc":
        backlog(queue, name, 50, cost=2.0)
    newcomer = queue.flow("new", 1.0)
    assert queue.ahead(newcomer, (0, 0.0, 0)) == pytest.approx(6.0)
    assert FairQueue(60.0).ahead(newcomer, (0, 0.0, 0)) == 0.0


def test_the_work_ahead_is_never_more_than_what_waits() -> None:
    queue = FairQueue(60.0)
    late = queue.flow("late", 1.0)
    queue.charge(late, 1000.0)
    queue.virtual = 0.0
    backlog(queue, "a", 3, cost=2.0)
    backlog(queue, "b", 2, cost=5.0)
    assert queue.ahead(late, (0, 0.0, 0)) == 16.0


@pytest.mark.parametrize(("weight", "others"), [(1.0, 9.0), (4.0, 3.0), (8.0, 2.0)])
def test_a_weight_brings_the_own_work_nearer(weight: float, others: float) -> None:
    queue = FairQueue(60.0)
    backlog(queue, "other", 40)
    flow = backlog(queue, "mine", 8, weight=weight)
    assert (
        queue.ahead(flow, (0, 9.0, next(numbers))) == 8.0 + others
    )  # as far as it comes, and one turn begun


@pytest.mark.parametrize(("weight", "others"), [(1.0, 5.0), (2.0, 9.0), (0.5, 3.0)])
def test_others_are_served_by_their_weight_on_the_way(weight: float, others: float) -> None:
    queue = FairQueue(60.0)
    backlog(queue, "other", 40, weight=weight)
    flow = queue.flow("mine", 1.0)
    queue.charge(flow, 4.0)
    assert queue.ahead(flow, (0, 9.0, next(numbers))) == others  # until virtual time four, and one turn begun


def test_a_flow_that_is_not_as_far_as_virtual_time_is_served_longer() -> None:
    queue = FairQueue(60.0)
    backlog(queue, "other", 40)
    for _ in range(7):
        serve(queue)
    behind = backlog(queue, "behind", 40)
    queue.correct(behind, 2.0, 0.0)
    assert queue.virtual == 6.0
    newcomer = queue.flow("new", 1.0)
    assert (
        queue.ahead(newcomer, (0, 9.0, next(numbers))) == 3.0
    )  # two, and one turn begun; the other is further


def test_where_many_are_earlier_some_stand_for_all() -> None:
    queue = FairQueue(60.0)
    for number in range(300):
        backlog(queue, f"t{number}", 3)
    assert queue.ahead(queue.flow("new", 1.0), (0, 9.0, next(numbers))) == 300.0
