"""A database with rollups, and the processes that serve and keep them, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from broker.adapters.migrate import migrate
from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollups import PgRollups
from broker.config.loader import load
from broker.domain.model import Dataset, Model
from broker.domain.rollup import Rollup
from broker.runtime.clock import SystemClock
from tests.support.eventually import eventually
from tests.support.server import RunningBroker, running_broker

BUILD_SECONDS = 120


@asynccontextmanager
async def rollup_store(dsn: str, config: Path) -> AsyncIterator[tuple[PgRollups, Model]]:
    """The rollups of a model."""
    model = load(config, os.environ, {"database.dsn": dsn}).model
    async with open_rollup_database(dsn) as database:
        yield PgRollups(database, PgRollupSchema(database), model.datasets, SystemClock()), model


async def install(dsn: str, config: Path) -> None:
    """The broker's tables, and the triggers of every dataset that has rollups."""
    await migrate(dsn, "jobs")
    await migrate(dsn, "rollups")
    async with rollup_store(dsn, config) as (store, model):
        for dataset in model.datasets.values():
            if dataset.rollups:
                await store.install(dataset)


async def built(dsn: str, config: Path) -> None:
    """Returns when every partition of every rollup is built.

    Raises:
        TimeoutError: That took too long.
    """
    async with rollup_store(dsn, config) as (store, model), asyncio.timeout(BUILD_SECONDS):
        for dataset in model.datasets.values():
            for rollup in dataset.rollups.values():
                await _until_whole(store, dataset, rollup)


async def _until_whole(store: PgRollups, dataset: Dataset, rollup: Rollup) -> None:
    async def whole() -> bool:
        partitions = (await store.status(dataset, rollup)).partitions
        return bool(partitions) and all(part.segment is not None for part in partitions)

    await eventually(whole, f"{rollup.name} is built", BUILD_SECONDS)


@asynccontextmanager
async def rollup_service(
    dsn: str, home: Path, config: Path, overrides: Mapping[str, object] | None = None
) -> AsyncIterator[RunningBroker]:
    """A worker that builds the rollups and keeps them up, and a broker that serves from them once they are built."""
    settings = {"rollups.mirror_dir": str(home / "mirror"), **(overrides or {})}
    async with AsyncExitStack() as stack:
        await entered(stack, running_broker(dsn, home, config=config, overrides=settings, role="worker"))
        await built(dsn, config)
        yield await entered(stack, running_broker(dsn, home, config=config, overrides=settings))


async def entered(stack: AsyncExitStack, manager: object) -> RunningBroker:
    """Enters what runs a broker, in a thread since that blocks; it is left in one as well."""
    running: RunningBroker = await asyncio.to_thread(manager.__enter__)  # type: ignore[attr-defined] # a context manager

    async def leave() -> None:
        await asyncio.to_thread(manager.__exit__, None, None, None)  # type: ignore[attr-defined] # the same

    stack.push_async_callback(leave)
    return running
