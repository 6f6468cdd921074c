"""Who is answered before being classified when the brown-out dial is turned, and what that answer says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, cast

import pytest

from broker.domain.answer import Answer, AnswerKind, AnswerStatus, Batch, DegradationReason
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import ExploreAsk, ExploreEvent, ExploreHeader
from broker.domain.rollup import Rollup
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency, FallbackMode, RollupMode
from broker.domain.values import ResultFormat
from broker.pipeline.cached import asked_of
from broker.pipeline.early import BrownedOut
from broker.pipeline.ladder import Ladder
from broker.pipeline.service import QueryService
from broker.pipeline.stale_cache import StaleCache
from broker.pipeline.streamed import Limits
from broker.policy.brownout import cohort
from broker.telemetry.instruments import Telemetry
from tests.support.virtual_time import VirtualClock, run
from tests.unit.pipeline.test_cached import CONTEXT, PLAN, World

if TYPE_CHECKING:
    from broker.domain.work import JobAsk
    from broker.pipeline.classified import Classifying
    from broker.pipeline.explain import Explainer
    from broker.pipeline.planner import Planner
    from broker.pipeline.recipes import Recipes
    from broker.pipeline.sql import SqlStream

LIVE_ONLY = frozenset({AnswerKind.LIVE})


async def stale() -> World:
    """A world with an answer that was read twenty seconds ago; something has changed since."""
    world = World()
    await world.read()
    world.changes.seen += 1
    world.passed(20.0)
    return world


def early(
    world: World,
    strain: float = 1.0,
    policy: AnswerPolicy | None = None,
    consistency: Consistency = Consistency.BOUNDED,
    *,
    rollups: bool = False,
    pool: PoolName = PoolName.DASHBOARD,
) -> Answer | None:
    def strained(asked: PoolName, _principal: Principal, _left: float) -> float:
        assert asked is pool
        return strain

    asked = asked_of(PLAN, policy or AnswerPolicy(), ResultFormat.COLUMNS, consistency)
    if rollups:
        dataset = replace(
            PLAN.main.dataset, rollups={"daily": Rollup("daily", "flights", "time_hour", (), ())}
        )
        asked = replace(asked, plan=replace(PLAN, main=replace(PLAN.main, dataset=dataset)))
    ladder = Ladder([StaleCache(world.cached)], VirtualClock(), Telemetry.off())
    (found,) = BrownedOut(ladder, world.cached, strained)([asked], CONTEXT, pool)
    return found


def test_the_old_answer_says_what_was_spared() -> None:
    async def main() -> None:
        world = await stale()
        found = early(world)
        assert found is not None
        status = found.status
        assert (status.kind, status.degraded, status.degradation_level) == (AnswerKind.CACHE_STALE, True, 2)
        assert (status.reasons, status.staleness) == ((DegradationReason.BROWNOUT,), 20.0)
        walk = [(step.rung.value, step.verdict.value, step.codes) for step in status.ladder]
        assert walk == [
            ("cache_fresh", "not_applicable", ()),
            ("rollup", "not_applicable", ()),
            ("live", "skipped", ("BROWNOUT",)),
            ("cache_stale", "answered", ()),
        ]
        assert len(world.refreshed) == 1, "a newer one is asked for"
        tried = early(world, rollups=True)
        assert tried is not None
        assert tried.status.ladder[1].verdict.value == "skipped"

    run(main())


def test_the_dial_decides_by_the_key() -> None:
    async def main() -> None:
        world = await stale()
        place = cohort(asked_of(PLAN, AnswerPolicy(), ResultFormat.COLUMNS, Consistency.BOUNDED).key)
        assert early(world, strain=0.0) is None
        assert early(world, strain=0.5 + 0.49 * place) is None
        assert early(world, strain=0.5 + 0.51 * place) is not None

    run(main())


def test_who_explores_goes_down_only_where_nobody_comes_in() -> None:
    async def main() -> None:
        world = await stale()
        assert early(world, strain=0.99, pool=PoolName.EXPLORATION) is None
        found = early(world, strain=1.0, pool=PoolName.EXPLORATION)
        assert found is not None
        assert found.status.reasons == (DegradationReason.BROWNOUT,)

    run(main())


class Busy:
    """Classifies nothing any more: who comes as far was not answered before."""

    async def prospects(self, *_: object) -> NoReturn:
        raise BrokerError(ErrorReason.OVERLOADED, "classified")


def explored(world: World, strain: float, job: JobAsk | None = None) -> AsyncGenerator[ExploreEvent, None]:
    """The stream of an exploration at a service whose pool is so full."""
    asked = Query("flights", measures=("flights",))
    ladder = Ladder([StaleCache(world.cached)], VirtualClock(), Telemetry.off())
    service = QueryService(
        cast("Planner", lambda _query, _context: PLAN),
        cast("Recipes", None),
        cast("Classifying", Busy()),
        cast("Explainer", None),
        cast("SqlStream", None),
        Telemetry.off(),
        Limits(100, 1 << 20),
        world.cached,
        early=BrownedOut(ladder, world.cached, lambda _pool, _principal, _left: strain),
    )
    return service.explore(CONTEXT, ExploreAsk(asked, AnswerPolicy(), job=job))


def test_an_exploration_has_the_old_answer_before_it_is_classified() -> None:
    async def main() -> None:
        header, batch, status = [event async for event in explored(await stale(), 1.0)]
        assert isinstance(header, ExploreHeader)
        assert isinstance(batch, Batch)
        assert isinstance(status, AnswerStatus)
        assert (status.kind, status.reasons) == (AnswerKind.CACHE_STALE, (DegradationReason.BROWNOUT,))
        with pytest.raises(BrokerError, match="classified"):
            _ = [event async for event in explored(await stale(), 0.99)]
        with pytest.raises(BrokerError, match="classified"):  # it may go on for longer than the caller waits
            _ = [event async for event in explored(await stale(), 1.0, cast("JobAsk", object()))]

    run(main())


@pytest.mark.parametrize(
    "policy",
    [
        AnswerPolicy(fallback=FallbackMode.FAIL),
        AnswerPolicy(cache=CacheMode.BYPASS),
        AnswerPolicy(cache=CacheMode.REVALIDATE),
        AnswerPolicy(accepted_kinds=LIVE_ONLY),
        AnswerPolicy(accepted_kinds=frozenset({AnswerKind.CACHE_STALE})),
        AnswerPolicy(max_staleness=15.0),
        AnswerPolicy(rollup=RollupMode.REQUIRE),
    ],
)
def test_the_caller_may_forbid_it(policy: AnswerPolicy) -> None:
    async def main() -> None:
        world = await stale()
        assert early(world, policy=policy) is None
        assert early(world, consistency=Consistency.SNAPSHOT) is None
        assert early(world) is not None

    run(main())


def test_what_is_not_held_or_too_old_goes_on() -> None:
    async def main() -> None:
        world = World()
        assert early(world) is None
        await world.read()
        assert early(world) is None, "a fresh one is found elsewhere"
        world = await stale()
        assert early(world) is not None
        world.passed(81.0)
        assert early(world) is None

    run(main())
