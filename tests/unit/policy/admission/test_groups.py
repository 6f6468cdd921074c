"""Load groups: the panels of a dashboard stand or fall together."""

from __future__ import annotations

import pytest

from broker.policy.admission.fair_queue import Entry, FairQueue
from broker.policy.admission.groups import CAPACITY, LoadGroups
from broker.policy.admission.scheduler import GRACE, Scheduler
from broker.policy.admission.values import (
    Admitted,
    Decision,
    Outcome,
    Quantiles,
    Queued,
    RefusalReason,
    Refused,
    Stage,
)
from tests.support.scheduling import DASHBOARD, admitted_ids, ask, limits, only, shared, takes

FAR = 1e6


def busy(seats: int = 1, **bounds: float) -> Scheduler:
    """A backend all of whose seats are taken by work that takes a second."""
    core = shared(seats, {DASHBOARD: limits(**bounds)})  # type: ignore[arg-type]  # whole numbers where needed
    for number in range(seats):
        core.offer(ask(f"r{number}", f"r{number}", FAR, takes(1.0)), 0.0)
    return core


def panels(
    core: Scheduler, count: int, group: str = "g", deadline: float = 41.0, now: float = 0.0
) -> list[Decision]:
    """Offers so many panels of one load, ``g/0`` and on."""
    asked = [ask(f"{group}/{n}", "t", deadline, takes(1.0), group=group) for n in range(count)]
    return [core.offer(each, now)[0] for each in asked]


def test_the_first_decides_for_the_others() -> None:
    core = busy(wait=0.1)  # four seconds of wait, at one request a second
    assert all(isinstance(decision, Queued) for decision in panels(core, 10))
    assert isinstance(only(core.offer(ask("other", "t", 41.0, takes(1.0)), 0.0)), Refused)


def test_those_of_a_group_that_was_let_in_wait_as_long_as_it_takes() -> None:
    core = busy(wait=0.1)
    first, second = panels(core, 2)
    assert isinstance(first, Queued)
    assert isinstance(second, Queued)
    assert (first.until, second.until) == (GRACE * 4.0, 40.0)


def test_all_are_refused_with_the_first_and_told_the_same() -> None:
    core = busy()
    core.finish("r0", Outcome.SUCCESS, 30.0, 30.0)
    core.offer(ask("r0", "r", FAR), 30.0)
    decisions = panels(core, 3, deadline=50.0, now=30.0)
    assert [d.reason for d in decisions if isinstance(d, Refused)] == [RefusalReason.OVERLOADED] * 3
    assert len({d.pushback for d in decisions if isinstance(d, Refused)}) == 1
    assert [d.id for d in decisions] == ["g/0", "g/1", "g/2"]
    assert core.state(30.0)[0].refused_count == 3


def test_they_are_refused_even_when_a_seat_has_become_free_since() -> None:
    core = busy(wait=0.01)
    assert isinstance(panels(core, 1, deadline=10.0)[0], Refused)
    core.finish("r0", Outcome.SUCCESS, 1.0, 1.0)
    late = only(core.offer(ask("late", "t", 10.0, takes(1.0), group="g"), 1.0))
    assert isinstance(late, Refused)
    assert late.wait == 0.0
    assert isinstance(only(core.offer(ask("new", "t", 10.0, takes(1.0), group="h"), 1.0)), Admitted)


def test_groups_of_other_tenants_are_others() -> None:
    core = busy(wait=0.01)
    assert isinstance(panels(core, 1, deadline=10.0)[0], Refused)
    core.finish("r0", Outcome.SUCCESS, 1.0, 1.0)
    assert isinstance(only(core.offer(ask("x", "u", 10.0, takes(1.0), group="g"), 1.0)), Admitted)


def test_a_member_whose_wait_ends_takes_the_waiting_ones_along() -> None:
    core = busy()
    panels(core, 3, deadline=17.0)
    other = core.offer(ask("other", "u", FAR, takes(1.0)), 0.0)
    assert isinstance(only(other), Queued)
    decisions = core.tick(GRACE * 4.0)
    assert sorted(d.id for d in decisions) == ["g/0", "g/1", "g/2"]
    assert {d.reason for d in decisions if isinstance(d, Refused)} == {RefusalReason.QUEUE_TIMEOUT}
    assert {d.stage for d in decisions if isinstance(d, Refused)} == {Stage.QUEUE}
    assert core.state(GRACE * 4.0)[0].refused_count == 3
    assert core.loads()[0].queue_length == 1


def test_those_that_run_stay_when_the_others_fall() -> None:
    core = busy(2)
    panels(core, 4, deadline=17.0)
    assert admitted_ids(core.finish("r0", Outcome.SUCCESS, 1.0, 1.0)) == ["g/0"]
    core.tick(16.0)
    assert core.loads()[0].seats_used == 2
    assert core.loads()[0].queue_length == 0
    assert core.finish("g/0", Outcome.SUCCESS, 1.0, 16.5) == ()


def test_a_full_queue_refuses_the_whole_load() -> None:
    core = busy(queue=2)
    decisions = panels(core, 2)
    last = core.offer(ask("g/2", "t", 41.0, takes(1.0), group="g"), 0.0)
    assert all(isinstance(decision, Queued) for decision in decisions)
    assert [d.id for d in last] == ["g/2", "g/0", "g/1"]
    assert {d.limiting_factor for d in last if isinstance(d, Refused)} == {"queue"}
    assert core.loads()[0].queue_length == 0


def test_a_load_that_falls_lets_those_start_that_it_kept_out() -> None:
    core = shared(40, {DASHBOARD: limits(tenant_queue=1)})
    for number in range(36):
        core.offer(ask(f"r{number}", f"r{number}", FAR, takes(5.0)), 0.0)
    core.offer(ask("wide", "t", FAR, takes(1.0), seats=6.0, group="g"), 0.0)
    core.offer(ask("slow", "u", FAR, takes(9.0)), 0.0)
    decisions = core.offer(ask("second", "t", FAR, takes(1.0), group="g"), 0.0)
    assert [(type(d), d.id) for d in decisions] == [
        (Refused, "second"),
        (Refused, "wide"),
        (Admitted, "slow"),
    ]


def test_a_member_that_is_cancelled_says_nothing_about_the_others() -> None:
    core = busy()
    panels(core, 3)
    assert core.cancel("g/1", 0.5) == ()
    assert admitted_ids(core.finish("r0", Outcome.SUCCESS, 1.0, 1.0)) == ["g/0"]
    assert admitted_ids(core.finish("g/0", Outcome.SUCCESS, 1.0, 2.0)) == ["g/2"]


def test_a_member_without_time_to_wait_is_not_promised_any() -> None:
    core = busy()
    panels(core, 2)
    tight = only(core.offer(ask("tight", "t", 2.0, Quantiles(0.5, 3.0, 4.0), group="g"), 1.0))
    assert isinstance(tight, Queued)
    assert tight.until == 1.0
    decision = core.tick(1.0)[0]
    assert isinstance(decision, Refused)
    assert (decision.reason, decision.allowed_wait) == (RefusalReason.QUEUE_TIMEOUT, 0.0)
    assert core.loads()[0].queue_length == 0


@pytest.mark.parametrize("seats", [1, 2])
def test_the_first_of_a_load_that_will_not_fit_as_a_whole_is_refused(seats: int) -> None:
    core = busy(seats, wait=0.1, queue=1000.0, tenant_queue=1000.0)
    now = 0.0
    for number in range(20):
        now = 2.0 * number
        panels(core, 10, f"load{number}", deadline=now + 1.5, now=now)
        core.tick(now + 1.9)
    assert core.loads()[0].queue_length == 0
    decision = panels(core, 1, "now", deadline=now + 41.0 + 2, now=now + 2)[0]
    assert isinstance(decision, Refused)  # 1 s and 9 more, by seats, is beyond a tenth of 40 s
    assert decision.expected_wait == pytest.approx(10.0 / seats, rel=0.1)
    single = only(core.offer(ask("single", "t", now + 43.0, takes(1.0)), now + 2))
    assert isinstance(single, Queued)


def test_sizes_are_averaged_over_a_tenants_loads() -> None:
    groups = LoadGroups(300.0)
    for number, size in enumerate((5, 10)):
        for panel in range(size):
            groups.join(ask(f"{number}/{panel}", "t", 1.0 + number, group=f"g{number}"), float(number))
    assert groups.followers("t") == 4.0  # the second load still runs
    groups.join(ask("x", "t", 9.0, group="x"), 5.0)
    assert groups.followers("t") == pytest.approx(5.0 + 0.2 * (10.0 - 5.0) - 1.0)


def test_a_group_ends_with_its_deadline() -> None:
    groups = LoadGroups(300.0)
    first, decided = groups.join(ask("1", "t", 10.0, group="g"), 0.0)
    assert (decided, first.until) == (False, 10.0)
    again, decided = groups.join(ask("2", "t", 99.0, group="g"), 9.9)
    assert again is first
    assert decided
    new, decided = groups.join(ask("3", "t", 99.0, group="g"), 10.0)
    assert new is not first
    assert not decided


def test_a_group_without_a_deadline_is_forgotten_after_a_while() -> None:
    groups = LoadGroups(300.0)
    first, _ = groups.join(ask("1", "t", float("inf"), group="g"), 1.0)
    assert first.until == 1.0 + 300.0


def test_groups_are_forgotten_in_the_order_in_which_they_came() -> None:
    groups = LoadGroups(300.0)
    for number in range(CAPACITY):
        groups.join(ask(str(number), f"t{number}", FAR, group="g"), 0.0)
    assert groups.join(ask("again", "t1", FAR, group="g"), 0.0)[1]
    assert groups.join(ask("first", "t0", FAR, group="g"), 0.0)[1] is False  # forgotten by the call before
    assert groups.join(ask("last", f"t{CAPACITY - 1}", FAR, group="g"), 0.0)[1]


def test_what_waits_of_a_group_is_known_exactly() -> None:
    groups = LoadGroups(300.0)
    group, _ = groups.join(ask("1", "t", FAR, group="g"), 0.0)
    flow = FairQueue(60.0).flow("t", 1.0)
    entries = [Entry(ask(str(n), "t", FAR, group="g"), flow, (0, 0.0, n), 0.0) for n in range(3)]
    group.waiting = {entry.request.id: entry for entry in entries}
    groups.left(entries[0])
    reason = Refused("1", DASHBOARD, RefusalReason.OVERLOADED, Stage.QUEUE, "queue", 1)
    assert groups.fall(entries[1], reason) == [entries[2]]
    assert group.refused is reason
    assert group.waiting == {}
    stranger = Entry(ask("9", "u", FAR, group="g"), flow, (0, 0.0, 9), 0.0)
    groups.left(stranger)
    assert groups.fall(stranger, reason) == []
