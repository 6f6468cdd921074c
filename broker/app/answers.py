"""Opens what stands beside the live path: answers that are held, what is known of changes, refreshes and flights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.app.cache import Cache, ages, cache
from broker.app.freshness import change_log, revalidating, revalidation
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.errors import BrokerError
from broker.domain.held import Content
from broker.domain.model import Model
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.pipeline.cached import Cached
from broker.pipeline.coalesced import Flights
from broker.pipeline.revalidate import Revalidation
from broker.pipeline.service import QueryService
from broker.policy.containment import Asking
from broker.runtime.admission import Admission
from broker.transport.health import Check

ANSWERED = frozenset({PoolName.DASHBOARD, PoolName.EXPLORATION})
"""Pools whose calls may be answered without a seat."""


@dataclass(frozen=True, slots=True)
class HeldAnswers:
    """The open parts; all but ``cache`` are None where the cache is off."""

    cache: Cache
    cached: Cached | None = None
    flights: Flights | None = None
    refreshes: Revalidation | None = None

    def answers(self, pool: PoolName) -> bool:
        """Whether calls for seats of a pool may be answered from here: there is something to answer from."""
        if self.cached is None or pool not in ANSWERED:
            return False
        return any(tier.entry_count for tier in self.cache.answers.states())

    def ready(self, check: Check) -> Check:
        """A check of the databases that passes while there is something to answer dashboards from without them.

        Else, when a database is away, load balancers would take every broker away, and with them what is held.
        """

        async def either() -> None:
            try:
                await check()
            except BrokerError:
                if not self.answers(PoolName.DASHBOARD):
                    raise

        return either


@asynccontextmanager
async def held_answers(
    settings: Settings, model: Model, admission: Admission, own: Process
) -> AsyncIterator[HeldAnswers]:
    """The cache of the settings. While it is on, changes are looked for, over a connection of their own."""
    async with cache(settings, model, own) as tiers:
        if not tiers.enabled:
            yield HeldAnswers(tiers)
            return
        refreshes = revalidation(admission, own)
        async with change_log(settings, model, own) as changes:
            cached = Cached(
                tiers.answers,
                changes,
                own.clock,
                lambda dataset: ages(settings.cache, dataset),
                own.random.random,
                own.telemetry,
                settings.cache.max_entry,
                refreshes.refresh,
                content_of,
            )
            turns = tiers.turns if settings.cache.shared else None
            async with Flights(own.clock, own.telemetry, cached, turns).open() as flights:
                yield HeldAnswers(tiers, cached, flights, refreshes)


@asynccontextmanager
async def refreshing(held: HeldAnswers, query: QueryService) -> AsyncIterator[None]:
    """Held answers that should be read again are, while the block runs."""
    if held.refreshes is None:
        yield
        return
    async with revalidating(held.refreshes, query.read_again):
        yield


def content_of(plan: Plan) -> Content:
    """What the rows of a plan's answer are."""
    return Asking(plan).content
