"""Drawn datasets in a database, a worker that builds their rollups when it is asked to, and a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import asyncpg

from broker.adapters.migrate import COMPONENTS, migrate
from querybroker import Client
from tests.support.drawn import changes, tables
from tests.support.drawn.models import DrawnDataset, configuration
from tests.support.pg import Connection
from tests.support.rollups import entered, install
from tests.support.server import RunningBroker, running_broker

ROWS = 150
SETTINGS = {
    "rollups.refresh": False,
    "rollups.verify_share": 0,
    "pools.dashboard.workers": 1,
    "pools.exploration.workers": 1,
}


@dataclass(slots=True)
class DrawnPlace:
    """The database, the datasets in it, and a client of the broker. ``changed`` counts the changes so far."""

    connection: Connection
    client: Client
    datasets: Sequence[DrawnDataset]
    broker: RunningBroker
    changed: int = 0
    failed: list[str] = field(default_factory=list)
    """Rollups that could not be refreshed as a whole, and why."""

    async def refresh(self) -> None:
        """Brings every rollup up to date, as far as that goes."""
        names = [
            f"datasets/{each.shape.name}/rollups/{rollup}"
            for each in self.datasets
            for rollup, given in each.given["rollups"].items()
            if given.get("storage") != "external"
        ]
        jobs = [await self.client.rollups.refresh(name) for name in names]
        waiting = (self.client.jobs.wait(job.name, timeout=120) for job in jobs)
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        self.failed = [
            f"{name}: {error}"
            for name, error in zip(names, ended, strict=True)
            if isinstance(error, Exception)
        ]

    async def change(self, random: Random, dataset: DrawnDataset) -> str:
        """Changes the tables of a dataset in one transaction, and tells how; what is refused changes nothing."""
        self.changed += 1
        statements = changes.changes(random, dataset.shape, self.changed)
        try:
            async with self.connection.transaction():
                await self.connection.execute(statements)
        except asyncpg.PostgresError as error:
            return f"-- refused: {error}\n{statements}"
        return statements


@asynccontextmanager
async def drawn_place(
    dsn: str, home: Path, datasets: Sequence[DrawnDataset], random: Random
) -> AsyncIterator[DrawnPlace]:
    """Everything is made, and nothing is built."""
    connection = await asyncpg.connect(dsn)
    config = home / "drawn.yaml"
    config.write_text(configuration(datasets))
    settings = {**SETTINGS, "rollups.mirror_dir": str(home / "mirror")}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        for dataset in datasets:
            rows = tables.inserted(random, dataset.shape, 1, random.choice((ROWS // 4, ROWS)))
            await connection.execute(";\n".join((tables.ddl(dataset.shape), rows, *dataset.views)))
        await connection.execute("ANALYZE")
        for component in COMPONENTS:
            await migrate(dsn, component)
        await install(dsn, config)
        await entered(stack, running_broker(dsn, home, config=config, overrides=settings, role="worker"))
        broker = await entered(stack, running_broker(dsn, home, config=config, overrides=settings))
        client = await stack.enter_async_context(Client(broker.address, throttle=False))
        yield DrawnPlace(connection, client, datasets, broker)
