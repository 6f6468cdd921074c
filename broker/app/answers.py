"""Opens what stands beside the live path: answers that are held, what is known of changes, and flights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.adapters.pg_changes import Changes
from broker.adapters.pg_changes_poll import ChangePoller
from broker.app.cache import Cache, ages, cache
from broker.app.options import connection_settings
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.held import Held
from broker.domain.model import Model
from broker.domain.request import CallContext
from broker.pipeline.cached import Asked, Cached, Refresh, no_refresh
from broker.pipeline.coalesced import Flights


@dataclass(slots=True)
class Refreshes:
    """Who reads held answers again, once somebody does."""

    by: Refresh = no_refresh

    def __call__(self, asked: Asked, held: Held, context: CallContext) -> bool:
        """Whether a newer answer is on its way."""
        return self.by(asked, held, context)


@dataclass(frozen=True, slots=True)
class HeldAnswers:
    """The open parts; ``cached`` and ``flights`` are None where the cache is off."""

    cache: Cache
    refreshes: Refreshes
    cached: Cached | None = None
    flights: Flights | None = None


@asynccontextmanager
async def held_answers(settings: Settings, model: Model, own: Process) -> AsyncIterator[HeldAnswers]:
    """The cache of the settings. Changes are looked for while it is on, over a connection of their own."""
    refreshes = Refreshes()
    async with cache(settings, model, own) as tiers:
        if not tiers.enabled:
            yield HeldAnswers(tiers, refreshes)
            return
        changes = Changes(model.datasets.values(), own.clock.monotonic)
        cached = Cached(
            tiers.answers,
            changes,
            own.clock,
            lambda dataset: ages(settings.cache, dataset),
            own.random.random,
            own.telemetry,
            settings.cache.max_entry,
            refreshes,
        )
        flights = Flights(own.clock, own.telemetry, tiers.answers, tiers.turns)
        poller = ChangePoller(
            changes,
            settings.database.dsn,
            connection_settings(settings.database),
            settings.cache.poll,
            own.clock.monotonic,
            own.random,
        )
        looking = asyncio.create_task(poller.run())
        try:
            async with flights.open():
                yield HeldAnswers(tiers, refreshes, cached, flights)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            poller.close()
