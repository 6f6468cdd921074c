"""What benchmarks over a real broker share: a database that is kept between runs, and brokers over it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc
import grpc.aio

from broker.adapters.migrate import migrate
from broker.demo.embedded import EmbeddedPostgres
from broker.demo.flights import load_flights
from broker.demo.install import reachable_data_dir
from tests.support.server import FLIGHTS_MODEL, RunningBroker, running_broker

KEPT = Path(tempfile.gettempdir()) / "querybroker-bench"
"""Outside the checkout, so that a clean clone stays clean; made again when it is gone."""
CHANNEL = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


@dataclass(frozen=True)
class Place:
    """A database with the flights, and a running broker over it."""

    dsn: str
    broker: RunningBroker
    postgres: EmbeddedPostgres

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own to the broker."""
        return grpc.aio.insecure_channel(self.broker.address, options=CHANNEL)


@asynccontextmanager
async def flights_database(copies: int = 1) -> AsyncIterator[tuple[EmbeddedPostgres, str]]:
    """A PostgreSQL with the flights, repeated ``copies`` times with shifted years; loaded once and kept."""
    home = reachable_data_dir(KEPT / f"flights-{copies}")
    postgres = EmbeddedPostgres(home)
    await asyncio.to_thread(postgres.start)
    try:
        dsn = postgres.dsn("postgres")
        connection = await asyncpg.connect(dsn)
        try:
            await load_flights(connection, copies=copies)
            await connection.execute("ANALYZE")
        finally:
            await connection.close()
        await migrate(dsn, "jobs")
        yield postgres, dsn
    finally:
        await asyncio.to_thread(postgres.stop)


def extended_model(home: Path, datasets: Mapping[str, object]) -> Path:
    """The model of the flights with more datasets, as a file in ``home``."""
    config = home / "broker.yaml"
    added = [f"  {name}: {json.dumps(dataset)}" for name, dataset in datasets.items()]  # JSON is YAML
    config.write_text("\n".join([FLIGHTS_MODEL.read_text(), *added, ""]))
    return config


@asynccontextmanager
async def flights_broker(
    copies: int = 1,
    overrides: Mapping[str, object] | None = None,
    datasets: Mapping[str, object] | None = None,
) -> AsyncIterator[Place]:
    """A broker in a process of its own over the flights; ``datasets`` are added to its model."""
    async with (
        flights_database(copies) as (postgres, dsn),
        broker_over(postgres, dsn, overrides, datasets) as place,
    ):
        yield place


@asynccontextmanager
async def broker_over(
    postgres: EmbeddedPostgres,
    dsn: str,
    overrides: Mapping[str, object] | None = None,
    datasets: Mapping[str, object] | None = None,
) -> AsyncIterator[Place]:
    """A broker over a database that runs already."""
    with tempfile.TemporaryDirectory(prefix="broker-") as home:
        config = extended_model(Path(home), datasets or {})
        manager = running_broker(dsn, Path(home), config=config, overrides=overrides)
        running = await asyncio.to_thread(manager.__enter__)
        try:
            yield Place(dsn, running, postgres)
        finally:
            await asyncio.to_thread(manager.__exit__, None, None, None)
