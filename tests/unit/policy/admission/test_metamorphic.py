"""Worlds that differ in something that must not matter, or must matter in one way only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.domain.pool import TenantLimits
from broker.policy.admission.values import Admitted, Decision, Killed, Outcome, Queued, Refused
from tests.support.admission_events import (
    LIMITED,
    TENANTS,
    Arrive,
    End,
    Event,
    Pass,
    Script,
    World,
    examples,
    worlds,
)
from tests.support.admission_model import POOLS, Model
from tests.support.scheduling import DASHBOARD, admitted_ids, ask, limits, offer_all, shared, takes

FACTOR = 4.0  # a power of four, so that sums and square roots of times scale without rounding
known = Script(known=True).events
scripts = Script().events


def rounded(decision: Decision) -> Decision:
    """Chances go through logarithms, which do not scale exactly."""
    return replace(decision, chance=round(decision.chance, 9)) if isinstance(decision, Killed) else decision


def slower(decision: Decision) -> Decision:
    """The same decision where everything takes ``FACTOR`` times as long."""
    match decision:
        case Admitted():
            return replace(
                decision, wait=FACTOR * decision.wait, expected_wait=FACTOR * decision.expected_wait
            )
        case Queued():
            return replace(
                decision, until=FACTOR * decision.until, expected_wait=FACTOR * decision.expected_wait
            )
        case Killed():
            return replace(decision, left=FACTOR * decision.left, chance=round(decision.chance, 9))
        case Refused():
            bound = {"deadline": FACTOR, "tenant_rate": 1 / FACTOR}.get(decision.limiting_factor, 1.0)
            return replace(
                decision,
                limit=bound * decision.limit,
                wait=FACTOR * decision.wait,
                expected_wait=FACTOR * decision.expected_wait,
                allowed_wait=FACTOR * decision.allowed_wait,
                pushback=None if decision.pushback is None else FACTOR * decision.pushback,
            )


@examples(60)
@given(world=worlds, script=known)
@example(
    World(0, (limits(1), limits(1), limits(1), limits(1))),
    [Arrive(0, 0, 8, 1), Arrive(1, 0, 8, 1), Pass(1, punctual=True), End(0, Outcome.SUCCESS)],
)
def test_a_slower_world_decides_the_same_later(world: World, script: list[Event]) -> None:
    plain, slow = Model(world), Model(world.scaled(FACTOR), scale=FACTOR)
    plain.play(script)
    slow.play(script)
    assert list(map(rounded, slow.log)) == list(map(slower, plain.log))


@examples(60)
@given(world=worlds, script=scripts, names=st.permutations(TENANTS))
def test_names_of_tenants_do_not_matter(world: World, script: list[Event], names: list[str]) -> None:
    plain = Model(world)
    renamed = Model(world, names=tuple(names), limited=names[TENANTS.index(LIMITED)])
    plain.play(script)
    renamed.play(script)
    assert plain.log == renamed.log


@examples(60)
@given(world=worlds, script=scripts, when=st.integers(0, 20))
def test_a_tenant_that_asks_for_nothing_changes_nothing(world: World, script: list[Event], when: int) -> None:
    alone, beside = Model(world), Model(world)
    alone.play(script)
    beside.play(script[:when])
    # It is known and has been served elsewhere, but has nothing to be done here.
    beside.core.charge(POOLS[0], "idle", 50.0, beside.now)
    assert beside.draining or beside.core.refusal(POOLS[0], "idle", beside.now) is None
    first = beside.core.offer(ask("never", "idle", beside.now), beside.now)[0]
    assert isinstance(first, Refused)
    beside.play(script[when:])
    assert [replace(d, pushback=None) if isinstance(d, Refused) else d for d in beside.log] == [
        replace(d, pushback=None) if isinstance(d, Refused) else d for d in alone.log
    ]


@examples(60)
@given(world=worlds, script=scripts)
def test_the_hour_does_not_matter(world: World, script: list[Event]) -> None:
    early, late = Model(world), Model(world, now=4096.0)
    early.play(script)
    late.play(script)
    shifted = [replace(d, until=d.until + 4096.0) if isinstance(d, Queued) else d for d in early.log]
    assert late.log == shifted
    states = [model.core.state(model.now) for model in (early, late)]
    assert [replace(state, tenants=()) for state in states[0]] == [
        replace(state, tenants=()) for state in states[1]
    ]


def shares(weights: dict[str, float], sizes: dict[str, float], turns: int) -> dict[str, float]:
    """Parts of the work that tenants with endless backlogs are served on four seats."""
    core = shared(
        4, {DASHBOARD: limits(queue=10_000, tenant_queue=5_000)},
        tenants={name: TenantLimits(weight=weight) for name, weight in weights.items()},
    )  # fmt: skip
    backlog = {f"{name}{n}": size for name, size in sizes.items() for n in range(turns)}
    running = [f"x{n}" for n in range(4)]
    offer_all(core, [ask(name, "x", 1e9, takes(1.0)) for name in running])
    offer_all(core, [ask(name, name[0], 1e9, takes(size)) for name, size in backlog.items()])
    served, now = dict.fromkeys(sizes, 0.0), 0.0
    for _ in range(turns):
        ended = running.pop(0)
        now += 0.25
        running += admitted_ids(core.finish(ended, Outcome.SUCCESS, backlog.get(ended, 1.0), now))
        if ended in backlog:
            served[ended[0]] += backlog[ended]
    total = sum(served.values())
    return {name: work / total for name, work in served.items()}


@pytest.mark.parametrize("sizes", [{"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 8.0, "b": 1.0, "c": 0.5}])
def test_a_doubled_weight_doubles_the_share(sizes: dict[str, float]) -> None:
    even = shares(dict.fromkeys(sizes, 1.0), sizes, 1500)
    assert even == pytest.approx(dict.fromkeys(sizes, 1 / 3), abs=0.02)
    for favoured in sizes:
        doubled = shares({name: 2.0 if name == favoured else 1.0 for name in sizes}, sizes, 1500)
        assert doubled == pytest.approx({n: 0.5 if n == favoured else 0.25 for n in sizes}, abs=0.02)
