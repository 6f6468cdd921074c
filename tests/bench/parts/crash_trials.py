"""Single trials: a handler that computes for 20 leases, one that kills its worker, and cancels."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

from broker.domain.job import JobResult, JobState
from broker.jobs.children import Children
from broker.jobs.kind import JobContext
from broker.jobs.worker import Pace
from tests.bench import harness
from tests.bench.parts.crash_fleet import Fleet
from tests.support.jobs import Jobs, submission
from tests.support.processes import runs
from tests.support.workers import PATIENT, TestKind, Waiting, worker

PATIENCE = 600.0
CUT = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'querybroker job signals'"


async def alone(jobs: Jobs, folder: Path, kind: str, lease: float) -> tuple[int, float, str]:
    """One job of a kind on two workers: how often it has begun, the seconds until it has ended, and how."""
    (folder / "external").mkdir()
    async with Fleet(jobs.dsn, folder, lease, Random(1), workers=2, clients=0).running() as fleet:
        began = time.perf_counter()
        job_id = await fleet.submit(str(uuid.uuid4()), kind)
        async with asyncio.timeout(PATIENCE), jobs.hub.watch("acme", job_id, 0, 3600.0) as events:
            *_, last = [event async for event in events]
        job = last.job
        seconds = time.perf_counter() - began
    lines = [line for file in (folder / "external").iterdir() for line in file.read_text().splitlines()]
    reason = job.failure.reason if job.failure is not None else ""
    dead = " in the dead-letter queue" if job.dead_lettered else ""
    return len(lines), seconds, f"{job.state.value} {reason}{dead}".strip()


class Cancels:
    """Cancels of jobs under way. ``wrong`` counts processes that still ran when their job was said to be cancelled."""

    def __init__(self, jobs: Jobs, folder: Path) -> None:
        self._jobs = jobs
        self._folder = folder
        self._waiting = Waiting()
        self._spinning = asyncio.Queue[tuple[int, int]]()
        self.wrong = 0

    async def times(self, count: int) -> Mapping[str, float]:
        """The 99th percentile, in seconds: of a coroutine, of a child process, and of one without hints."""
        children = Children(1 << 30, preload=("tests.support.job_children",))
        kinds = {"spin": TestKind(self._spin, "spin"), "test": TestKind(self._waiting)}
        found = {}
        try:
            for kind, deaf, pace in (
                ("test", False, PATIENT),
                ("spin", False, PATIENT),
                ("test", True, Pace()),
            ):
                async with worker(
                    self._jobs.ports, kinds, self._folder, children=children, pace=pace
                ) as running:
                    await running.leased()
                    took = [await self._cancel(kind, deaf=deaf) for _ in range(count // 4 if deaf else count)]
                found["deaf" if deaf else kind] = harness.percentile(took, 99)
        finally:
            children.kill_all()
            children.close()
        return found

    async def _spin(self, context: JobContext) -> JobResult:
        async with context.children.child("tests.support.job_children:spin", None) as child:
            pids = await child.receive()
            assert isinstance(pids, tuple)
            self._spinning.put_nowait(pids)
            await child.receive()
        return JobResult()

    async def _cancel(self, kind: str, *, deaf: bool) -> float:
        jobs = self._jobs
        await jobs.listening()
        job = await jobs.ports.store.submit(submission(kind=kind))
        pids = await self._spinning.get() if kind == "spin" else ()
        if kind != "spin":
            await self._waiting.begun.get()
        if deaf:
            await jobs.admin.execute(CUT)
        asked = time.perf_counter()
        await jobs.ports.store.cancel("acme", job.id, "ada")
        await jobs.reaches(job.id, JobState.CANCELLED)
        took = time.perf_counter() - asked
        self.wrong += sum(map(runs, pids))
        with suppress(asyncio.QueueEmpty):
            self._waiting.stopped.get_nowait()
        return took
