"""What keeps held answers fresh: the poller that sees changes, and the refreshes behind answers that were given out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.adapters.pg_changes import Changes
from broker.adapters.pg_changes_poll import ChangePoller
from broker.app.behind import behind
from broker.app.options import connection_settings
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.model import Model
from broker.domain.pool import PoolName
from broker.pipeline.revalidate import Ask, Revalidation
from broker.ports.changes import ChangeLog
from broker.runtime.admission import Admission

LOOKS, LEAST = 4.0, 2.0
"""A look is trusted until so many more should have been made, and for so many seconds at the least."""


@asynccontextmanager
async def change_log(settings: Settings, model: Model, own: Process) -> AsyncIterator[ChangeLog]:
    """Changes of the model's tracked datasets are looked for while the block runs."""
    every, now = settings.cache.poll, own.clock.monotonic
    changes = Changes(model.datasets.values(), now, max(LEAST, LOOKS * every))
    made = connection_settings(settings.database)
    poller = ChangePoller(changes, settings.database.dsn, made, every, now, own.random, own.telemetry)
    async with behind({"changes": poller.run()}):
        yield changes


def revalidation(admission: Admission, own: Process) -> Revalidation:
    """Refreshes within a share of the seats of dashboards; nothing is read before :func:`revalidating`."""

    def seats() -> int:
        return next((load.seat_limit for load in admission.loads() if load.pool is PoolName.DASHBOARD), 1)

    return Revalidation(seats, own.clock, own.random, own.telemetry)


@asynccontextmanager
async def revalidating(refreshes: Revalidation, ask: Ask) -> AsyncIterator[None]:
    """What was wished for is read while the block runs."""
    async with behind({"refreshes": refreshes.run(ask)}):
        yield
