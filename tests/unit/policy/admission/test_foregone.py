"""Requests that need not be read, because they would be refused whatever they ask."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import Outcome, Quantiles, RefusalReason, Refused, Stage
from tests.support.admission_events import TENANTS, Event, Script, World, examples, worlds
from tests.support.admission_model import Model
from tests.support.scheduling import DASHBOARD, ask, limits, scheduler, shared, takes

CRITICAL = Criticality.CRITICAL


def busy(core: Scheduler, seconds: float = 1.0) -> float:
    """The only seat is taken by work of a known length; returns the present."""
    core.offer(ask("known", deadline=100.0, predicted=takes(seconds)), 0.0)
    core.finish("known", Outcome.SUCCESS, seconds, 0.0)
    core.offer(ask("runs", "other", deadline=100.0, predicted=takes(seconds)), 0.0)
    return 0.0


def test_who_cannot_wait_for_one_that_ends_is_not_read() -> None:
    core = scheduler()
    now = busy(core)
    refused = core.refusal(DASHBOARD, "a", now, CRITICAL, 0.9)
    assert refused is not None
    assert (refused.id, refused.reason, refused.stage) == ("", RefusalReason.OVERLOADED, Stage.ARRIVAL)
    assert (refused.expected_wait, refused.allowed_wait, refused.limit) == (1.0, 0.9, 1.0)
    assert refused.limiting_factor == "wait_budget"
    assert refused.pushback is not None
    assert core.refusal(DASHBOARD, "a", now, CRITICAL, 1.0) is None
    assert core.refusal(DASHBOARD, "a", now) is None
    assert core.refusal(PoolName.ADMIN, "a", now, CRITICAL, 0.0) is None, "another pool has room"
    core.finish("runs", Outcome.SUCCESS, 1.0, now)
    assert core.refusal(DASHBOARD, "a", now, CRITICAL, 0.0) is None, "a seat is free"


def test_nothing_is_foregone_before_the_pool_knows_its_work() -> None:
    core = scheduler()
    core.offer(ask("runs", predicted=takes(1.0)), 0.0)
    assert core.refusal(DASHBOARD, "b", 0.0, CRITICAL, 0.0) is None


def test_what_waits_counts_by_its_level() -> None:
    core = scheduler(wait=1.0)
    now = busy(core)
    core.offer(ask("waits", "b", deadline=100.0, predicted=takes(1.0)), now)
    found = [core.refusal(DASHBOARD, "a", now, level, 0.5) for level in Criticality]
    assert [each and each.expected_wait for each in found] == [2.0, 2.0, 2.0, 1.0]


def test_with_several_seats_the_wait_is_shorter() -> None:
    core = scheduler(in_flight=2, wait=1.0)
    now = busy(core)
    for name in ("runs too", "waits"):
        core.offer(ask(name, deadline=100.0, predicted=takes(1.0)), now)
    refused = core.refusal(DASHBOARD, "a", now, CRITICAL, 0.4)
    assert refused is not None
    assert refused.expected_wait == 0.5, "if it goes before its tenant's own"
    assert core.refusal(DASHBOARD, "a", now, CRITICAL, 0.5) is None


def test_nothing_is_foregone_where_there_is_no_seat_for_now() -> None:
    core = shared(1, {DASHBOARD: limits()})
    now = busy(core)
    core.lease("db", 0, now)
    assert core.refusal(DASHBOARD, "a", now, CRITICAL, 0.5) is None


def test_one_that_may_go_before_its_own_tenants_is_read() -> None:
    core = scheduler(wait=0.5)
    now = busy(core)
    core.offer(ask("waits", deadline=21.0, predicted=takes(1.0)), now)  # and may do so until 10
    assert core.refusal(DASHBOARD, "a", now, CRITICAL, 1.5) is None, (
        "it may start before 10, and takes a second"
    )
    refused = core.refusal(DASHBOARD, "a", now + 9.5, CRITICAL, 1.5)
    assert refused is not None, "who must start before 10 is too late, and the others wait behind"
    assert refused.expected_wait == 2.0
    first, *_ = deepcopy(core).offer(ask("short", deadline=3.0, predicted=takes(0.01)), now)
    assert not isinstance(first, Refused)


@pytest.mark.parametrize(("queue", "tenant_queue"), [(1, 10), (10, 1)])
def test_of_queues_that_are_full_there_is_more_to_tell(queue: int, tenant_queue: int) -> None:
    core = scheduler(queue=queue, tenant_queue=tenant_queue, wait=1.0)
    now = busy(core)
    assert core.refusal(DASHBOARD, "a", now, CRITICAL, 0.5) is not None
    core.offer(ask("waits", deadline=100.0, predicted=takes(1.0)), now)
    assert core.refusal(DASHBOARD, "a", now, CRITICAL, 0.5) is None


def test_asking_changes_nothing_but_the_next_hint() -> None:
    core = scheduler()
    now = busy(core)
    for number in range(3):
        core.refusal(DASHBOARD, f"new-{number}", now, CRITICAL, 0.5)
    assert len(core.state(now)[0].tenants) == len(busy_state(scheduler()))


def busy_state(core: Scheduler) -> tuple[object, ...]:
    return core.state(busy(core))[0].tenants


@dataclass
class Doubter:
    """Has everybody who is refused unread asked as well, in a copy of the core."""

    model: Model
    refused: int = 0

    def doubt(self, pool: PoolName, tenant: str, level: Criticality, left: float) -> None:
        model = self.model
        budget = model.world.pools[pool].wait_fraction * left
        unread = model.core.refusal(pool, tenant, model.now, level, budget)
        if unread is None or unread.reason is not RefusalReason.OVERLOADED:
            return
        self.refused += 1
        for part, attempt in ((0.0, 0), (0.01, 0), (0.5, 0), (0.9, 0), (0.0, 2), (0.5, 2)):
            predicted = Quantiles(part * left / 4, part * left, part * left)
            request = ask(
                "new", tenant, model.now + left, predicted, pool, criticality=level, attempt=attempt
            )
            decision, *_ = deepcopy(model.core).offer(request, model.now)
            assert isinstance(decision, Refused), (part, attempt, unread)
            assert decision.expected_wait >= unread.expected_wait - 1e-9 or part


def test_whoever_is_refused_unread_would_be_refused_when_read() -> None:
    doubted = 0

    @examples(120)
    @given(
        world=worlds,
        script=Script(groups=False).events,
        asked=st.tuples(
            st.sampled_from(TENANTS), st.sampled_from(Criticality), st.sampled_from([0.25, 2.0, 8.0])
        ),
    )
    def play(world: World, script: list[Event], asked: tuple[str, Criticality, float]) -> None:
        nonlocal doubted
        model = Model(world)
        doubter = Doubter(model)
        for event in script:
            model.step(event)
            for pool in world.pools:
                doubter.doubt(pool, *asked)
        doubted += doubter.refused

    play()
    assert doubted > 100
