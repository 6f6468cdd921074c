"""What the demonstration runs: PostgreSQL with the flights, a broker, a worker; started and stopped in order.

What is open is closed in the opposite order whatever happens in between. Children notice by themselves when this
process is killed (`broker.demo.children`), and so does PostgreSQL (`broker.demo.supervise`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import asyncpg

from broker.adapters.migrate import ANALYTICAL, COMPONENTS, migrate
from broker.app.rollups import open_rollups
from broker.config.loader import load
from broker.demo.children import Child, child
from broker.demo.embedded import EmbeddedPostgres
from broker.demo.flights import LoadedFlights, load_flights
from broker.demo.install import reachable_data_dir
from broker.runtime.clock import SystemClock

HOST: Final = "127.0.0.1"
FIRST_PORT: Final = 50051
FIRST_METRICS_PORT: Final = 9464
_TRIES: Final = 50
Progress = Callable[[int, int], None]


class PortTakenError(Exception):
    """The port that was asked for is in use."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demonstration keeps its files: the data of PostgreSQL, results of jobs, segments, logs.

    PostgreSQL runs as another account under root and may not reach ``home``; its data then lies elsewhere.
    """

    home: Path

    @property
    def postgres(self) -> Path:
        """Data of PostgreSQL."""
        return reachable_data_dir(self.home / "postgres")

    @property
    def results(self) -> Path:
        """Files of exports."""
        return self.home / "results"

    @property
    def mirror(self) -> Path:
        """Local copies of the segments of rollups."""
        return self.home / "mirror"

    def log(self, name: str) -> Path:
        """Log of a child."""
        return self.home / f"{name}.log"


@dataclass(frozen=True, slots=True)
class Running:
    """What is running, and where it answers; ``metrics`` is empty when no port was free for it."""

    address: str
    metrics: str
    children: tuple[Child, ...]

    async def failed(self) -> None:
        """Waits until a child ends by itself, and raises `ChildError` then."""
        await asyncio.wait([each.ended for each in self.children], return_when=asyncio.FIRST_COMPLETED)
        raise next(each for each in self.children if each.ended.done()).failure()


@asynccontextmanager
async def postgres(place: Place) -> AsyncIterator[EmbeddedPostgres]:
    """The embedded PostgreSQL. Raises `EmbeddedPostgresError`, also when another demonstration has the directory."""
    server = EmbeddedPostgres(place.postgres)
    starting = asyncio.create_task(asyncio.to_thread(server.start))
    try:
        await asyncio.shield(starting)
        yield server
    finally:
        await asyncio.wait(
            [starting]
        )  # a thread cannot be cancelled: what it starts must be there to be stopped
        await asyncio.to_thread(server.stop)


async def prepare(
    server: EmbeddedPostgres, rows: int | None, progress: Progress
) -> tuple[str, LoadedFlights]:
    """Makes the database with the flights, or finds it from before; returns its address and what it holds.

    ``rows`` loads a sample of that many flights, into a database of its own.
    """
    name = "flights" if rows is None else f"flights_{rows}"
    admin = await asyncpg.connect(server.dsn())
    try:
        if not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name):
            await admin.execute(
                f"CREATE DATABASE {name} TEMPLATE template0"
            )  # letters, digits and underscores
    finally:
        await admin.close()
    connection = await asyncpg.connect(server.dsn(name))
    try:
        loaded = await load_flights(connection, sample_rows=rows, progress=progress)
    finally:
        await connection.close()
    for component in (*COMPONENTS, *ANALYTICAL):
        await migrate(server.dsn(name), component)
    await install_rollups(server.dsn(name))
    return server.dsn(name), loaded


async def install_rollups(dsn: str) -> None:
    """Has changes of the flights noted, so that the worker builds their rollups and keeps them up."""
    with as_file(files("broker.demo") / "flights.yaml") as config:
        loaded = await asyncio.to_thread(load, config, {}, {"database.dsn": dsn})
    async with open_rollups(loaded.settings, loaded.model, SystemClock()) as store:
        for dataset in loaded.model.datasets.values():
            if dataset.rollups:
                await store.install(dataset)


@asynccontextmanager
async def processes(place: Place, dsn: str, port: int) -> AsyncIterator[Running]:
    """A broker and a worker on the database at ``dsn``; port 0 is any. Raises `ChildError` when one does not start."""
    place.results.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "QUERYBROKER__DATABASE__DSN": dsn}  # not an argument: those are public
    with as_file(files("broker.demo") / "flights.yaml") as config:
        common = {
            "jobs.result_dir": str(place.results),
            "rollups.mirror_dir": str(place.mirror),
            "server.host": HOST,
        }
        serve = {
            **common,
            "server.port": str(port),
            "telemetry.prometheus_port": str(free_port(FIRST_METRICS_PORT) or 0),
        }
        work = {**common, "telemetry.prometheus_port": "0"}
        async with AsyncExitStack() as stack:

            async def start(command: str, settings: Mapping[str, str]) -> Child:
                arguments = [command, "--config", str(config)]
                arguments += [f"--set={key}={value}" for key, value in settings.items()]
                name = "broker" if command == "serve" else command
                return await stack.enter_async_context(child(name, arguments, environment, place.log(name)))

            # Stopped in the opposite order: the worker finishes what the broker has stopped taking.
            children = await start("worker", work), await start("serve", serve)
            _, info = [await each.ready() for each in children]
            yield Running(info["address"], info["metrics"], children)


def choose_port(port: int | None) -> int:
    """The port that was asked for, if it is free, or the first free one from `FIRST_PORT`; 0 leaves it to the system.

    Raises `PortTakenError`.
    """
    if port is None:
        return free_port(FIRST_PORT) or 0
    if port and not _is_free(port):
        raise PortTakenError(
            f"Port {port} is in use. Choose another one with --port, or leave --port out to take the next free one."
        )
    return port


def free_port(first: int) -> int | None:
    """The first free port from ``first``; None when none of the next `_TRIES` is."""
    return next((port for port in range(first, first + _TRIES) if _is_free(port)), None)


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
