"""What a pool makes of a request: its width, its work, what its tenant is charged, and how long it may wait."""

from __future__ import annotations

import math

import pytest

from broker.domain.pool import TenantLimits
from broker.policy.admission.fair_queue import Entry
from broker.policy.admission.pool import UNKNOWN_TAIL, Pool, mean_time
from broker.policy.admission.values import AdmissionRequest, Outcome, Quantiles, Tuning
from tests.support.scheduling import DASHBOARD, EXPLORATION, UNKNOWN, ask, limits, scheduler, shared, takes

FAR = 1e6
SKEWED = Quantiles(1.0, 2.0, 10.0)


def pool(in_flight: int = 40) -> Pool:
    return Pool(DASHBOARD, limits(in_flight), Tuning())


def sized(made: Pool, request: AdmissionRequest, memory_share: float = 0.0) -> Entry:
    entry = Entry(request, made.flow_of(request.tenant, TenantLimits()), (0, 0.0, 0), 0.0)
    made.size(entry, memory_share)
    return entry


def test_the_mean_of_a_prediction_leans_to_its_tail_and_is_never_below_its_median() -> None:
    assert mean_time(SKEWED) == pytest.approx(0.3 + 0.8 + 3.0)
    assert mean_time(Quantiles(0.0, 5.0, 5.0)) == 5.0
    assert mean_time(UNKNOWN) == 0.0


def test_work_is_time_by_width() -> None:
    entry = sized(pool(), ask("1", predicted=SKEWED, seats=3.0))
    assert (entry.seats, entry.width, entry.p90) == (3, 3.0, 10.0)
    assert entry.work == entry.cost == pytest.approx(3 * 4.1)


def test_of_seats_and_memory_the_dominant_one_is_the_width() -> None:
    entry = sized(pool(), ask("1", predicted=takes(2.0), seats=3.0, memory=9), 4.5)
    assert (entry.seats, entry.memory, entry.width, entry.work) == (3, 9, 4.5, 9.0)
    assert sized(pool(), ask("1", predicted=takes(2.0), seats=3.0, memory=9), 2.5).work == 6.0


def test_a_tenant_whose_predictions_are_wrong_is_charged_the_high_one() -> None:
    made = pool()
    request = ask("1", predicted=SKEWED, seats=2.0)
    flow = sized(made, request).flow
    while not flow.pessimistic:
        flow.learn(1.0, 100.0)
    entry = sized(made, request)
    assert entry.cost == 20.0
    assert entry.work == pytest.approx(2 * 4.1)


def test_what_is_unknown_costs_a_turn_until_something_is_known() -> None:
    made = pool()
    first = sized(made, ask("1", seats=2.0))
    assert (first.work, first.cost, first.p90) == (0.0, 2.0, math.inf)
    made.mean_work = 4.0
    known = sized(made, ask("2", seats=2.0))
    assert (known.work, known.cost, known.p90) == (8.0, 8.0, 4.0 * UNKNOWN_TAIL)


@pytest.mark.parametrize(
    ("predicted", "deadline", "expected"),
    [
        (takes(2.0), 22.0, 5.0),
        (Quantiles(1.0, 2.0, 8.0), 24.0, 5.0),
        (Quantiles(1.0, 4.0, 2.0), 24.0, 5.0),  # quantiles out of order: the median
        (UNKNOWN, 20.0, 5.0),
        (takes(20.0), 20.0, 0.0),
        (takes(30.0), 20.0, 0.0),
        (takes(1.0), math.inf, math.inf),
    ],
)
def test_a_quarter_of_the_slack_may_be_waited(predicted: Quantiles, deadline: float, expected: float) -> None:
    assert pool().budget(ask("1", deadline=deadline + 100.0, predicted=predicted), 100.0) == expected


def test_predictions_are_judged_by_work_that_succeeded_only() -> None:
    core = scheduler(in_flight=40)
    flow = core._book.pools[DASHBOARD].flow_of(
        "a", TenantLimits()
    )  # what is learned of a tenant shows late outside
    for name, outcome in (("1", Outcome.DROPPED), ("2", Outcome.IGNORED), ("3", Outcome.SUCCESS)):
        core.offer(ask(name, deadline=FAR, predicted=takes(1.0), seats=2.0), 0.0)
        before = flow.error
        core.finish(name, outcome, 10.0, 10.0)
        assert (flow.error > before) == (outcome is Outcome.SUCCESS)
    assert flow.error == pytest.approx(0.1 * math.log(10.0))  # width counts on both sides


def test_the_work_of_a_tenant_is_shown_in_seat_seconds() -> None:
    core = scheduler(in_flight=40)
    for name, seats in (("a", 3.0), ("b", 1.0)):
        core.offer(ask(name, name, FAR, takes(1.0), seats=seats), 0.0)
        core.finish(name, Outcome.SUCCESS, 2.0, 2.0)
    assert [t.share for t in core.state(2.0)[0].tenants] == pytest.approx([0.75, 0.25])


def test_work_elsewhere_is_charged_in_full() -> None:
    core = shared(1, {DASHBOARD: limits(), EXPLORATION: limits()})
    core.charge(DASHBOARD, "a", 5.0, 0.0)
    flow = core._book.pools[DASHBOARD].flow_of("a", TenantLimits())  # a tag shows outside only beside others
    assert flow.start == 5.0


def test_every_refusal_is_counted_once() -> None:
    core = scheduler(queue=2)
    for number in range(6):
        core.offer(ask(f"{number}"), 0.0)  # one runs, two wait, three are refused
    core.offer(ask("late", deadline=-1.0), 0.0)
    assert core.state(0.0)[0].refused_count == 4
    core.drain(0.0)
    assert core.state(0.0)[0].refused_count == 6
    core.offer(ask("after"), 0.0)
    assert (core.state(0.0)[0].refused_count, core.state(0.0)[0].admitted_count) == (7, 1)
