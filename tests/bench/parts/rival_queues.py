"""Other job queues over the same server, each driven as its own documentation recommends.

Both begin with a full queue and a handler that does nothing, as ours does; a rate is that from the first job that
begins to the last that has ended. They are no dependencies of this project but of its ``rivals`` extra, and are loaded
by name, since where they are missing the table says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType

import asyncpg

from tests.bench.harness import median
from tests.support.pg import Connection

PAYLOAD = "x" * 100
"""As our own jobs have it."""
FILL_AT_ONCE = 5_000


class Gate:
    """Counts the jobs of a round; the clock runs from the first."""

    def __init__(self, count: int) -> None:
        self._left = self._count = count
        self._began = 0.0
        self.over = asyncio.Event()

    def pass_one(self) -> None:
        """A job begins, and does nothing."""
        if self._left == self._count:
            self._began = time.perf_counter()
        self._left -= 1
        if not self._left:
            self.over.set()

    def rate(self) -> float:
        """Jobs per second until now."""
        return self._count / (time.perf_counter() - self._began)


async def pgqueuer(connection: Connection, dsn: str, count: int, batch: int) -> float:
    """Jobs per second of pgqueuer: a QueueManager over a connection of asyncpg, claiming ``batch`` jobs at once.

    It logs every change of a job's state in a table, in batches, and deletes the job.
    """
    core, queries = import_module("pgqueuer.core.qm"), import_module("pgqueuer.queries")
    own = await asyncpg.connect(dsn)
    try:
        found = queries.Queries.from_asyncpg_connection(own)
        if not await found.schema_is_installed():
            await found.install()
        await connection.execute("TRUNCATE pgqueuer, pgqueuer_log")
        for begin in range(0, count, FILL_AT_ONCE):
            some = min(FILL_AT_ONCE, count - begin)
            await found.enqueue(["nothing"] * some, [PAYLOAD.encode()] * some, [0] * some)
        await connection.execute("VACUUM ANALYZE pgqueuer")
        manager, gate = core.QueueManager(found), Gate(count)

        async def nothing(_: object) -> None:
            gate.pass_one()

        manager.entrypoint("nothing", accepts_context=False)(nothing)
        running = asyncio.create_task(manager.run(batch_size=batch))
        await _over(gate, running)
        # What ended last is written by a timer of its own, or as the manager ends: whichever is sooner.
        manager.shutdown.set()
        await running
        rate = gate.rate()
    finally:
        await own.close()
    await _all_ended(connection, "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'", count)
    return rate


async def procrastinate(connection: Connection, dsn: str, count: int, batch: int) -> float:
    """Jobs per second of procrastinate: a worker over psycopg with ``batch`` jobs at a time; it claims one by one.

    It keeps the ended jobs, with an event for every change of their state.
    """
    module = import_module("procrastinate")
    app = module.App(connector=module.PsycopgConnector(conninfo=dsn))
    gate = Gate(count)

    async def nothing(payload: str) -> None:
        del payload
        gate.pass_one()

    task = app.task(name="nothing")(nothing)
    async with app.open_async():
        if await connection.fetchval("SELECT to_regclass('procrastinate_jobs') IS NULL"):
            await app.schema_manager.apply_schema_async()
        await connection.execute("TRUNCATE procrastinate_jobs, procrastinate_events CASCADE")
        for begin in range(0, count, FILL_AT_ONCE):
            await task.batch_defer_async(*[{"payload": PAYLOAD}] * min(FILL_AT_ONCE, count - begin))
        await connection.execute("VACUUM ANALYZE procrastinate_jobs")
        # It ends by itself once the queue is empty and all that was begun is written.
        await app.run_worker_async(concurrency=batch, wait=False, install_signal_handlers=False)
        rate = gate.rate()
    await _all_ended(connection, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'", count)
    return rate


@dataclass(frozen=True, slots=True)
class Rival:
    """Another queue. ``jobs`` bounds those of one round, ``few`` those in quick mode: some seconds at its rate."""

    drive: Callable[[Connection, str, int, int], Awaitable[float]]
    jobs: int
    few: int


RIVALS: Mapping[str, Rival] = MappingProxyType(
    {"pgqueuer": Rival(pgqueuer, 40_000, 4_000), "procrastinate": Rival(procrastinate, 3_000, 300)}
)


async def beside(
    connection: Connection, dsn: str, batches: Mapping[int, int], *, quick: bool
) -> Sequence[tuple[str, int, int, float | str]]:
    """For each queue and each size of batch, with its jobs of a round: those driven, and jobs per second or why not."""
    found: list[tuple[str, int, int, float | str]] = []
    for name, rival in RIVALS.items():
        for batch, count in batches.items():
            driven = min(count, rival.few if quick else rival.jobs)
            try:
                rates = [await rival.drive(connection, dsn, driven, batch) for _ in range(1 if quick else 3)]
            except ImportError as error:
                found.append((name, batch, 0, f"n/a: not installed ({error.name})"))
            else:
                found.append((name, batch, driven, median(rates)))
    return found


async def _over(gate: Gate, running: asyncio.Task[None]) -> None:
    """Waits until the last job has begun; raises what the manager does."""
    last = asyncio.create_task(gate.over.wait())
    await asyncio.wait({last, running}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        last.cancel()
        await running


async def _all_ended(connection: Connection, statement: str, count: int) -> None:
    if (ended := await connection.fetchval(statement)) != count:
        raise AssertionError(f"{ended} of {count} jobs have ended: {statement}")
