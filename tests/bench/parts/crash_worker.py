"""A job worker that is there to be killed: `python -m tests.bench.parts.crash_worker DSN FOLDER LEASE_SECONDS`.

Its kinds are ``async``, which waits a little, ``child``, whose child process computes for a little, ``burn``, which
computes in the event loop for 20 leases, and ``pill``, which kills this process. Each attempt adds a line to a file of
this process in ``FOLDER/external``, as an effect outside of PostgreSQL, before it ends. What it writes to the job
carries its own fence as a number of rows, so that a write of a stale attempt can be told. Says ``ready WORKER_ID`` when
it begins to work.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import CLOCK_BOOTTIME, clock_gettime, monotonic

from broker.adapters.pg_jobs_open import open_jobs
from broker.adapters.result_dir import DirectoryResults
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import JobProgress, JobResult
from broker.jobs.attempt import Tools
from broker.jobs.child import Channel
from broker.jobs.children import Children
from broker.jobs.kind import JobContext, JobKind
from broker.jobs.lease import LeaseKeeper
from broker.jobs.progress import ProgressBoard
from broker.jobs.upkeep import Upkeep
from broker.jobs.worker import Pace, Worker
from broker.ports.jobs import WorkerIdentity
from broker.runtime.clock import SystemClock
from broker.runtime.scratch import scratch
from tests.bench.parts.crash_fleet import READY
from tests.support.processes import begun

MODULE = "tests.bench.parts.crash_worker"
"""The name by which children find this module, which is the main one of its own process."""
SLOTS = 8
PACE = Pace(poll=0.5, look=0.5, flush=0.1, reap=0.5, sweep=3600.0)
BURN_LEASES = 20
FAIL_SHARE = 0.05
"""Attempts that fail for a reason that may pass."""


def compute(channel: Channel, argument: object) -> None:
    """What the child does: it says who it is, computes for so many seconds, and says that it is done."""
    channel.send(os.getpid())
    end = monotonic() + float(str(argument))
    while monotonic() < end:
        sum(range(1_000))
    channel.send("done")


@dataclass(frozen=True, slots=True)
class Effects:
    """A kind of job whose attempts leave lines behind; ``step`` is what they do in between."""

    name: str
    folder: Path
    rng: Random
    with_child: bool
    note: Callable[[str], None]

    async def run(self, context: JobContext) -> JobResult:
        """Leaves an effect outside, and a result that says which attempt it is of."""
        fence = context.job.fence
        context.report(JobProgress("working", row_count=fence))
        seconds = self.rng.uniform(0.0, 0.3)
        if self.with_child:
            async with context.children.child(f"{MODULE}:compute", seconds) as child:
                process_id = int(str(await child.receive()))
                mark = self.folder / "children" / str(process_id)
                mark.write_text(begun(process_id))
                try:
                    await child.receive()
                finally:
                    mark.unlink(missing_ok=True)
        else:
            await asyncio.sleep(seconds)
        self.note(f"{context.job.id} {fence}")
        context.report(JobProgress("written", row_count=fence))
        if self.rng.random() < FAIL_SHARE:
            raise BrokerError(ErrorReason.OVERLOADED, "Try again.", metadata={"fence": str(fence)})
        return JobResult(row_count=fence)


@dataclass(frozen=True, slots=True)
class Burn:
    """Computes in the event loop, which does nothing else meanwhile."""

    seconds: float
    note: Callable[[str], None]
    name: str = "burn"

    async def run(self, context: JobContext) -> JobResult:
        """Leaves its line when it begins."""
        self.note(f"{context.job.id} {context.job.fence}")
        end = monotonic() + self.seconds
        while monotonic() < end:
            sum(range(1_000))
        return JobResult(row_count=context.job.fence)


@dataclass(frozen=True, slots=True)
class Pill:
    """Kills the process that runs it."""

    note: Callable[[str], None]
    name: str = "pill"

    async def run(self, context: JobContext) -> JobResult:
        """Leaves its line; does not return."""
        self.note(f"{context.job.id} {context.job.fence}")
        os.kill(os.getpid(), signal.SIGKILL)
        return JobResult()


async def main(dsn: str, folder: Path, lease_seconds: float) -> None:
    """Works until it is killed."""
    rng = Random(os.getpid())
    outside = os.open(folder / "external" / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(line: str) -> None:
        os.write(outside, f"{line}\n".encode())

    kinds: list[JobKind] = [
        *(Effects(name, folder, rng, name == "child", note) for name in ("async", "child")),
        Burn(BURN_LEASES * lease_seconds, note),
        Pill(note),
    ]
    children = Children(1 << 30, preload=(MODULE,))
    results = DirectoryResults(folder / "results")
    async with open_jobs(dsn, connections=4, clock=monotonic, rng=rng) as ports:
        worker = Worker(
            {kind.name: kind for kind in kinds},
            Tools(ports.queue, results, children, ProgressBoard(ports.queue), SystemClock(), rng, 3600.0),
            slots=SLOTS,
            lease=LeaseKeeper(
                ports.lease,
                lambda: WorkerIdentity(uuid.uuid4().hex, "bench", os.getpid(), "bench", SLOTS),
                lease_seconds,
                clock=lambda: clock_gettime(CLOCK_BOOTTIME),
                exit=os._exit,
                rng=rng,
            ),
            signals=ports.signals,
            upkeep=Upkeep(ports.keeper, results, rng, 3600.0),
            pace=PACE,
        )
        running = asyncio.create_task(worker.run())
        await worker.leased()
        os.write(1, f"{READY} {worker.worker_id}\n".encode())
        await running


if __name__ == "__main__":
    scratch()
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
