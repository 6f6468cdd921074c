"""A worker process for tests: `python -m tests.support.job_worker_main DSN DIRECTORY LEASE_SECONDS RANGES`.

Prints its worker id when it is ready. Its kinds are ``export``, cut into so many ranges, ``export_range``, ``hold``
(writes a line into the table ``ledger``, then waits for the advisory lock 7), and ``burn`` (writes a line, then blocks
the event loop for three leases).
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from pathlib import Path
from random import Random
from time import CLOCK_BOOTTIME, clock_gettime, monotonic

import asyncpg

from broker.adapters.pg_jobs_open import open_jobs
from broker.adapters.result_dir import DirectoryResults
from broker.domain.job import JobResult
from broker.jobs.attempt import Tools
from broker.jobs.children import Children
from broker.jobs.kind import JobContext
from broker.jobs.lease import LeaseKeeper
from broker.jobs.progress import ProgressBoard
from broker.jobs.ranged import RangedQueue
from broker.jobs.upkeep import Upkeep
from broker.jobs.worker import Worker
from broker.ports.jobs import WorkerIdentity
from broker.runtime.clock import SystemClock
from broker.runtime.scratch import scratch
from tests.support.exports import export_kinds
from tests.support.workers import QUICK, TestKind

LEDGER = "CREATE TABLE ledger (job_id text, fence bigint, pid integer)"


async def main(dsn: str, directory: str, lease_seconds: float, ranges: int) -> None:
    """Works until it is killed."""
    rng = Random(os.getpid())

    async def note(connection: asyncpg.Connection[asyncpg.Record], context: JobContext) -> None:
        await connection.execute(
            "INSERT INTO ledger VALUES ($1, $2, $3)", context.job.id, context.job.fence, os.getpid()
        )

    async def hold(context: JobContext) -> JobResult:
        connection = await asyncpg.connect(dsn)
        try:
            await note(connection, context)
            await connection.execute("SELECT pg_advisory_lock_shared(7)")
        finally:
            await connection.close()
        return JobResult(row_count=context.job.fence)

    async def burn(context: JobContext) -> JobResult:
        connection = await asyncpg.connect(dsn)
        await note(connection, context)
        await connection.close()
        until = monotonic() + 3 * lease_seconds
        while monotonic() < until:
            sum(range(1000))
        return JobResult()

    children = Children(1 << 30)
    results = DirectoryResults(Path(directory))
    async with (
        open_jobs(dsn, connections=2, clock=monotonic, rng=rng) as ports,
        export_kinds(dsn, ports.ranges, ranges) as exports,
    ):
        queue = RangedQueue(ports.queue, ports.ranges)
        worker = Worker(
            {"hold": TestKind(hold, "hold"), "burn": TestKind(burn, "burn"), **exports},
            Tools(queue, results, children, ProgressBoard(queue), SystemClock(), rng, 3600.0),
            slots=2,
            lease=LeaseKeeper(
                ports.lease,
                lambda: WorkerIdentity(uuid.uuid4().hex, "test", os.getpid(), "test", 2),
                lease_seconds,
                clock=lambda: clock_gettime(CLOCK_BOOTTIME),
                exit=os._exit,
                rng=rng,
            ),
            signals=ports.signals,
            upkeep=Upkeep(ports.keeper, results, rng, 3600.0),
            pace=QUICK,
        )
        running = asyncio.create_task(worker.run())
        await worker.leased()
        print(worker.worker_id, flush=True)  # noqa: T201 - the test waits for it
        await running


if __name__ == "__main__":
    scratch()
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
