"""What was judged once is given again until something may have changed, and not a moment longer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.held import Reach
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.terms import AnswerPolicy, Consistency
from broker.domain.values import ResultFormat
from broker.pipeline.cached import asked_of
from broker.pipeline.repeated import Repeat, Repeating
from broker.policy.freshness import Ages
from tests.unit.pipeline.test_cached import CONTEXT, NOW, PLAN, Clock, World


@dataclass
class Moving(Clock):
    """Both clocks go together."""

    def monotonic(self) -> float:
        return (self.at - NOW).total_seconds()


@dataclass
class Place:
    """A dashboard of one panel that was read, and asks again."""

    world: World
    calls: list[tuple[PoolName, Principal]] = field(default_factory=list)
    refused: BrokerError | None = None

    def repeat(self, **terms: object) -> Repeat | None:
        def meter(pool: PoolName, principal: Principal) -> BrokerError | None:
            self.calls.append((pool, principal))
            return self.refused

        policy = replace(AnswerPolicy(), **terms)  # type: ignore[arg-type] # terms of a policy
        asked = asked_of(PLAN, policy, ResultFormat.COLUMNS, Consistency.BOUNDED)
        return Repeating(self.world.cached, meter)([asked])

    def stands(self, repeat: Repeat | None, seconds: float = 0.0) -> bool:
        assert repeat is not None
        self.world.passed(seconds)
        if self.world.changes.tracked:
            self.world.changes.age += seconds
        return repeat.stands(self.world.clock.monotonic())


@pytest.fixture
async def tracked() -> Place:
    world = World(clock=Moving())
    await world.read()
    return Place(world)


@pytest.fixture
async def aged() -> Place:
    world = World(clock=Moving(), ages=Ages(soft=60.0, hard=100.0))
    world.changes.tracked = False
    await world.read()
    return Place(world)


def test_a_pause_while_it_is_judged_makes_it_older_and_never_newer(
    tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = tracked.world
    world.passed(10.0)
    world.changes.age = 0.125
    looked, unchanged = world.clock.now() - timedelta(seconds=world.changes.age), world.changes.unchanged

    def pausing(reach: Reach, moment: str) -> float | None:
        age = unchanged(reach, moment)
        world.passed(0.0625)
        world.changes.age += 0.0625
        return age

    monkeypatch.setattr(world.changes, "unchanged", pausing)
    repeat = tracked.repeat()
    assert repeat is not None
    ((_, fresh),) = repeat.found
    assert fresh.as_of <= looked
    told = fresh.staleness + world.clock.monotonic() - repeat.judged
    assert told >= (world.clock.now() - looked).total_seconds()


def test_it_stands_between_two_looks_at_the_source(tracked: Place) -> None:
    repeat = tracked.repeat()
    assert tracked.stands(repeat, 1.0)
    tracked.world.changes.age = 0.0
    assert not tracked.stands(repeat), "what is newer can be promised"
    assert tracked.stands(tracked.repeat(), 0.5)


def test_it_falls_with_a_change_and_with_sight_of_changes(tracked: Place) -> None:
    repeat = tracked.repeat()
    tracked.world.changes.seen += 1
    assert not tracked.stands(repeat)
    tracked.world.changes.seen -= 1
    assert tracked.stands(repeat)
    tracked.world.changes.tracked = False
    assert not tracked.stands(repeat)


def test_it_falls_when_the_answer_is_removed_or_replaced(tracked: Place) -> None:
    own, repeat = tracked.world.answers.own, tracked.repeat()
    ((key, held),) = own.items()
    own[key] = replace(held, seconds=held.seconds + 1.0)
    assert not tracked.stands(repeat)
    own[key] = held
    assert tracked.stands(repeat)
    del own[key]
    assert not tracked.stands(repeat)
    assert tracked.repeat() is None


def test_by_age_it_stands_until_an_early_refresh_may_be_drawn(aged: Place) -> None:
    repeat = aged.repeat()
    assert aged.stands(repeat, 40.0)
    assert not aged.stands(repeat, 10.0), "27 times the half second that the answer takes before its soft age"
    assert aged.repeat() is not None, "it is judged every time from then on"
    assert not aged.stands(aged.repeat())


def test_a_limit_of_the_caller_ends_it(tracked: Place, aged: Place) -> None:
    for place in (tracked, aged):
        repeat = place.repeat(max_staleness=20.0)
        assert place.stands(repeat, 5.0)
        assert not place.stands(repeat, 15.0)


def test_calls_are_counted_against_the_quota_when_they_are_given_it(tracked: Place) -> None:
    repeat = tracked.repeat()
    assert repeat is not None
    assert (tracked.stands(repeat), tracked.calls) == (True, [])
    assert repeat.allowed()
    tracked.refused = BrokerError(ErrorReason.TENANT_QUOTA, "")
    assert not repeat.allowed()
    assert tracked.calls == [(PoolName.DASHBOARD, CONTEXT.principal)] * 2


def test_what_is_not_from_the_cache_is_not_repeated(tracked: Place) -> None:
    assert tracked.repeat() is not None
    assert Repeating(tracked.world.cached, lambda *_: None)(["something else"]) is None
    assert tracked.repeat(max_staleness=0.0) is None
