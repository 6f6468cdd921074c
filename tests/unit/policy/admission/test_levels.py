"""Criticality levels: who matters more goes first, whoever asks; tenants are equals within a level."""

from __future__ import annotations

import pytest

from broker.domain.principal import Criticality
from broker.policy.admission.levels import Levels
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import Admitted, Queued, Refused
from tests.support.flows import entry
from tests.support.scheduling import DASHBOARD, ask, drain_order, limits, offer_all, only, shared, takes

FAR = 1e6
LOW, MIDDLE, HIGH, TOP = Criticality


def busy(**bounds: float) -> Scheduler:
    core = shared(1, {DASHBOARD: limits(**bounds)})  # type: ignore[arg-type]  # whole numbers where needed
    core.offer(ask("0", "z", FAR, takes(1.0)), 0.0)
    return core


def test_a_level_is_served_when_nobody_above_it_waits_whatever_tenants_have_had() -> None:
    core = busy()
    asked = [
        ("l", "idle", LOW),
        ("h1", "greedy", HIGH),
        ("h2", "greedy", HIGH),
        ("m", "idle", MIDDLE),
        ("t", "x", TOP),
    ]
    offer_all(core, [ask(name, tenant, FAR, takes(1.0), criticality=level) for name, tenant, level in asked])
    assert drain_order(core, ["0"], 1.0) == ["t", "h1", "h2", "m", "l"]


def test_the_wait_counts_everything_above_and_nothing_below() -> None:
    core = busy()
    for level, count in ((LOW, 5), (HIGH, 3)):
        offer_all(core, [ask(f"{level}/{n}", "a", FAR, takes(1.0), criticality=level) for n in range(count)])
    waits = {}
    for level in Criticality:
        decision = only(core.offer(ask(f"new/{level}", f"b{level}", FAR, takes(1.0), criticality=level), 0.0))
        assert isinstance(decision, Queued)
        waits[level] = decision.expected_wait
        core.cancel(f"new/{level}", 0.0)
    # One request's end, and: nothing; a turn of the other tenant; all three; those and a turn of the other tenant.
    assert waits == {TOP: 1.0, HIGH: 2.0, MIDDLE: 4.0, LOW: 5.0}


def test_a_full_queue_makes_room_for_what_matters_more() -> None:
    core = busy(queue=3)
    levels = {"a": HIGH, "b": LOW, "c": MIDDLE}
    offer_all(core, [ask(name, name, FAR, takes(1.0), criticality=level) for name, level in levels.items()])
    queued, pushed_out = core.offer(ask("d", "d", FAR, takes(1.0), criticality=TOP), 0.0)
    assert isinstance(queued, Queued)
    assert isinstance(pushed_out, Refused)
    assert pushed_out.id == "b"
    assert isinstance(only(core.offer(ask("e", "e", FAR, takes(1.0), criticality=MIDDLE), 0.0)), Refused)
    assert isinstance(only(core.offer(ask("f", "f", FAR, takes(1.0), criticality=LOW), 0.0)), Refused)


def test_the_state_adds_a_tenant_up_over_its_levels() -> None:
    core = busy()
    for level in Criticality:
        core.offer(ask(f"at {level}", "a", FAR, takes(1.0), criticality=level), 1.0 + level)
    (tenant,) = [each for each in core.state(9.0)[0].tenants if each.tenant == "a"]
    assert tenant.queue_length == 4
    assert core.state(9.0)[0].oldest_wait == 8.0


def test_a_queue_of_levels_knows_its_first_and_its_last() -> None:
    levels = Levels(60.0)
    assert levels.crowd() is None
    assert levels.oldest() is None
    with pytest.raises(IndexError):
        levels.head()
    made = {}
    for level in (HIGH, LOW, TOP):
        made[level] = entry(levels.levels[level].flow("a", 1.0), 1.0)
        levels.levels[level].push(made[level])
    assert levels.head() is made[TOP]
    assert list(levels.waiting()) == [levels.levels[TOP], levels.levels[HIGH], levels.levels[LOW]]
    assert levels.crowd() is made[LOW]
    levels.levels[TOP].take(made[TOP])
    levels.levels[LOW].remove(made[LOW])
    assert [queue.waiting_flows for queue in levels.levels] == [0, 0, 1, 0]
    assert (levels.head(), levels.crowd()) == (made[HIGH], made[HIGH])
    assert len(list(levels.flows())) == 3


def test_what_a_tenant_has_had_counts_within_the_level_only() -> None:
    core = busy()
    asked = [("h1", "a", HIGH), ("h2", "a", HIGH), ("m1", "a", MIDDLE), ("m2", "b", MIDDLE)]
    offer_all(core, [ask(name, tenant, FAR, takes(1.0), criticality=level) for name, tenant, level in asked])
    assert drain_order(core, ["0"], 1.0) == ["h1", "h2", "m1", "m2"]


def test_one_that_is_pushed_out_blocks_nobody_any_more() -> None:
    core = shared(40, {DASHBOARD: limits(queue=1)})
    offer_all(core, [ask(f"r{n}", f"r{n}", FAR, takes(5.0)) for n in range(36)])
    assert isinstance(
        only(core.offer(ask("wide", "w", FAR, takes(1.0), seats=6.0, criticality=LOW), 0.0)), Queued
    )
    decisions = core.offer(ask("top", "t", FAR, takes(50.0), criticality=TOP), 0.0)
    assert [(type(d), d.id) for d in decisions] == [(Queued, "top"), (Refused, "wide"), (Admitted, "top")]
