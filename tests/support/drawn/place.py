"""Drawn datasets in a database, a worker that builds their rollups when it is asked to, and a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import asyncpg

from broker.domain.errors import BrokerError
from broker.domain.rollup import Span, instant
from querybroker import Client, QueryBrokerError, policy, query
from tests.support.drawn import altering, changes, tables
from tests.support.drawn.models import DrawnDataset, configuration
from tests.support.drawn.policies import CALLER_KEY
from tests.support.drawn.tables import instants
from tests.support.eventually import eventually
from tests.support.pg import Connection, prepare
from tests.support.rollups import entered, install, rollup_store
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
    """The database, the datasets in it, and clients of the broker: ``limited`` is concerned by row policies.
    ``changed`` counts the changes so far."""

    connection: Connection
    client: Client
    limited: Client
    datasets: Sequence[DrawnDataset]
    broker: RunningBroker
    dsn: str
    config: Path
    changed: int = 0

    async def refresh(self) -> list[str]:
        """Brings every rollup up to date, and tells which could not be refreshed, and why."""
        names = [
            f"datasets/{each.shape.name}/rollups/{rollup}"
            for each in self.datasets
            for rollup, given in each.given["rollups"].items()
            if given.get("storage") != "external"
        ]
        jobs = [await self.client.rollups.refresh(name) for name in names]
        waiting = (self.client.jobs.wait(job.name, timeout=120) for job in jobs)
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        ends = zip(names, ended, strict=True)
        return [f"{name}: {error}" for name, error in ends if isinstance(error, BaseException)]

    async def change(self, random: Random, dataset: DrawnDataset) -> str:
        """Changes the tables of a dataset in one transaction, and tells how; what is refused changes nothing."""
        self.changed += 1
        return await self._made(changes.changes(random, dataset.shape, self.changed))

    async def alter(self, random: Random, dataset: DrawnDataset) -> str:
        """Changes what the tables of a dataset are, likewise."""
        self.changed += 1
        return await self._made(
            altering.alteration(random, dataset.shape, self.changed, viewed=bool(dataset.views))
        )

    async def install(self) -> None:
        """Makes the triggers that are missing."""
        await install(self.dsn, self.config)

    async def _made(self, statements: str) -> str:
        try:
            async with self.connection.transaction():
                await self.connection.execute(statements)
        except asyncpg.PostgresError as error:
            return f"-- refused: {error}\n{statements}"
        return statements

    async def until_sealed(self, dataset: DrawnDataset) -> None:
        """Returns when the broker knows that partitions of the dataset are sealed."""

        async def known() -> bool:
            try:
                await self.client.ask(
                    query(dataset=dataset.shape.name, measures=["rows"]), policy=policy(rollup="forbid")
                )
            except QueryBrokerError as error:
                return error.metadata.get("rule") == "SEAL"
            return False

        await eventually(known, "the seals are known")

    async def seal(self, random: Random, dataset: DrawnDataset) -> list[str]:
        """Seals partitions of one rollup, and gives the statements that delete their rows from the table."""
        own = [
            name
            for name, given in dataset.given["rollups"].items()
            if given.get("storage") != "external" and "tracking" not in given
        ]
        if not own:
            return []
        async with rollup_store(self.dsn, self.config) as (store, model):
            declared = model.datasets[dataset.shape.name]
            rollup = declared.rollups[random.choice(own)]
            try:
                partitions = (await store.status(declared, rollup)).partitions
            except BrokerError:  # times that are too far apart
                return []
            spans = [each.span for each in partitions if each.segment]
            if not spans:
                return []
            span = Span(spans[0].lo, random.choice(spans).hi)
            sealed = await store.seal(rollup, span)
        time = instants(dataset.shape, rollup.time)
        return [
            f"DELETE FROM {dataset.shape.name} WHERE {time} >= '{instant(span.lo)}' AND {time} < '{instant(span.hi)}'"
            for span in sealed
        ]


@asynccontextmanager
async def drawn_place(
    dsn: str,
    home: Path,
    datasets: Sequence[DrawnDataset],
    random: Random,
    *,
    worker: bool = True,
    **more: object,
) -> AsyncIterator[DrawnPlace]:
    """Everything is made, and nothing is built, nor can be without a worker. ``more`` is said of the cache."""
    config = home / "drawn.yaml"
    config.write_text(configuration(datasets))
    cache = {f"cache.{name}": value for name, value in more.items()}
    settings = {**SETTINGS, **cache, "rollups.mirror_dir": str(home / "mirror")}
    schema: list[str] = []
    for dataset in datasets:
        rows = tables.inserted(random, dataset.shape, 1, random.choice((ROWS // 4, ROWS)))
        schema += (tables.ddl(dataset.shape), rows, *dataset.views)
    await prepare(dsn, ";\n".join((*schema, "ANALYZE")))
    async with AsyncExitStack() as stack:
        connection = await asyncpg.connect(dsn)
        stack.push_async_callback(connection.close)
        await install(dsn, config)
        if worker:
            await entered(stack, running_broker(dsn, home, config=config, overrides=settings, role="worker"))
        broker = await entered(stack, running_broker(dsn, home, config=config, overrides=settings))
        client = await stack.enter_async_context(Client(broker.address, throttle=False))
        limited = await stack.enter_async_context(Client(broker.address, throttle=False, api_key=CALLER_KEY))
        yield DrawnPlace(connection, client, limited, datasets, broker, dsn, config)
