"""No tenant takes more than its part of a pool's seats while others of its level wait."""

from __future__ import annotations

from broker.policy.admission.values import Admitted, Outcome
from tests.support.scheduling import DASHBOARD, admitted_ids, ask, limits, offer_all, scheduler, shared, takes

FAR = 1e6


def test_the_part_is_counted_to_the_last_seat() -> None:
    core = shared(8, {DASHBOARD: limits(tenant_share=0.5)})
    running = {"z": 4, "a": 3, "b": 1}  # of the four that each may have
    work = {"z": 0.1, "a": 0.2, "b": 50.0}
    asked = [
        ask(f"{name}{n}", name, FAR, takes(work[name]))
        for name, count in running.items()
        for n in range(count)
    ]
    assert all(isinstance(decision, Admitted) for decision in offer_all(core, asked))
    offer_all(core, [ask(f"{name}+", name, FAR, takes(work[name])) for name in running])
    # By what they have had it is the turn of z, which has its part; then that of a, which has not.
    assert admitted_ids(core.finish("b0", Outcome.SUCCESS, 50.0, 1.0)) == ["a+"]
    assert admitted_ids(core.finish("z0", Outcome.SUCCESS, 0.1, 1.0)) == ["z+"]
    assert admitted_ids(core.finish("z1", Outcome.SUCCESS, 0.1, 1.0)) == ["b+"]


def test_a_wide_request_beyond_the_part_is_not_overtaken_by_its_own_tenant() -> None:
    core = shared(40, {DASHBOARD: limits(tenant_share=0.25)})
    offer_all(core, [ask(f"z{n}", "z", FAR, takes(0.1)) for n in range(9)])
    offer_all(core, [ask(f"r{n}", f"r{n}", FAR, takes(9.0)) for n in range(31)])
    waiting = [ask("wide", "z", 900.0, takes(0.1), seats=2.0), ask("narrow", "z", FAR, takes(0.1))]
    offer_all(core, [*waiting, ask("b", "b", FAR, takes(9.0))])
    core.charge(DASHBOARD, "b", 50.0, 0.0)
    assert admitted_ids(core.finish("r0", Outcome.SUCCESS, 9.0, 1.0)) == ["b"]


def test_a_tenant_alone_may_have_everything() -> None:
    core = shared(8, {DASHBOARD: limits(tenant_share=0.25)})
    asked = [ask(f"a{n}", "a", FAR, takes(1.0)) for n in range(12)]
    assert sum(isinstance(decision, Admitted) for decision in offer_all(core, asked)) == 8
    assert admitted_ids(core.finish("a0", Outcome.SUCCESS, 1.0, 1.0)) == ["a8"]


def test_the_part_is_at_least_one_seat() -> None:
    core = shared(2, {DASHBOARD: limits(tenant_share=0.1)})
    offer_all(core, [ask(name, name[0], FAR, takes(1.0)) for name in ("a0", "b0", "a1", "b1")])
    core.charge(DASHBOARD, "a", 50.0, 0.0)
    assert admitted_ids(core.finish("a0", Outcome.SUCCESS, 1.0, 1.0)) == ["a1"]  # b has its one


def test_the_part_of_a_pool_of_its_own_is_counted_in_requests() -> None:
    core = scheduler(in_flight=4)
    offer_all(core, [ask(f"a{n}", "a", FAR, takes(0.1)) for n in range(3)])  # three quarters
    core.offer(ask("b0", "b", FAR, takes(50.0)), 0.0)
    offer_all(core, [ask("a+", "a", FAR, takes(0.1)), ask("b+", "b", FAR, takes(50.0))])
    assert admitted_ids(core.finish("b0", Outcome.SUCCESS, 50.0, 1.0)) == ["b+"]


def test_the_part_holds_as_soon_as_two_wait() -> None:
    core = shared(8, {DASHBOARD: limits(tenant_share=0.5)})
    for name, work in (("a", 0.1), ("b", 50.0)):
        offer_all(core, [ask(f"{name}{n}", name, FAR, takes(work)) for n in range(4)])
    offer_all(core, [ask("a+", "a", FAR, takes(0.1)), ask("b+", "b", FAR, takes(50.0))])
    assert admitted_ids(core.finish("b0", Outcome.SUCCESS, 50.0, 1.0)) == ["b+"]
