"""How soon lost work is begun again and unwanted work stops, and what a job that kills its process costs others.

Times are printed (`pytest -s`) and asserted only as far as they show that the right thing made it happen.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.domain.job import JobResult, JobState
from broker.jobs.children import Children
from broker.jobs.kind import JobContext
from tests.support.jobs import Jobs, submission
from tests.support.processes import ended
from tests.support.workers import PATIENT, QUICK, TestKind, Waiting, worker

CUT = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'querybroker job signals'"


@asynccontextmanager
async def children() -> AsyncIterator[Children]:
    """Children of a worker, from a server that has imported what tests run."""
    made = Children(1 << 30, preload=("tests.support.job_children",))
    try:
        yield made
    finally:
        made.kill_all()
        made.close()


async def test_an_orphan_is_begun_again_soon_after_its_lease(
    jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lease row stays, as after `kill -9`; nobody renews it, and no leader has to be alive."""
    seconds, waiting = 1.0, Waiting()
    lost = await jobs.worker(seconds)
    submitted = await jobs.ports.store.submit(submission())
    (orphan,) = await jobs.claim(lost)
    began = time.perf_counter()
    async with worker(jobs.ports, waiting, tmp_path):
        context = await waiting.begun.get()
        waited = time.perf_counter() - began
        waiting.go.set()
        await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    assert (context.job.id, context.job.fence, context.job.attempt) == (orphan.id, 2, 2)
    with capsys.disabled():
        print(f"\norphan begun again {waited:.2f} s after the claim, lease {seconds:g} s")  # noqa: T201 - the figure


async def test_a_poison_pill_ends_after_exactly_its_limit_and_no_neighbour_is_lost(
    jobs: Jobs, tmp_path: Path
) -> None:
    runs: Counter[str] = Counter()
    neighbour = Waiting()

    async def pill(context: JobContext) -> JobResult:
        runs[context.job.id] += 1
        async with context.children.child("tests.support.job_children:die", None) as child:
            await child.send(None)
            await child.receive()
        return JobResult()

    async def glutton(context: JobContext) -> JobResult:
        runs[context.job.id] += 1
        async with context.children.child("tests.support.job_children:give_up", None) as child:
            await child.send(None)
            await child.receive()
        return JobResult()

    kinds = {
        "pill": TestKind(pill, "pill"),
        "glutton": TestKind(glutton, "glutton"),
        "test": TestKind(neighbour),
    }
    async with children() as own, worker(jobs.ports, kinds, tmp_path, children=own):
        beside = await jobs.ports.store.submit(submission())
        await neighbour.begun.get()
        large = await jobs.ports.store.submit(submission(kind="glutton"))
        too_large = await jobs.reaches(large.id, JobState.FAILED)
        bad = await jobs.ports.store.submit(submission(kind="pill", max_attempts=50))
        for crashes in (1, 2):
            await jobs.until(bad.id, lambda job, n=crashes: job.crash_count >= n)  # type: ignore[misc] # bound now
            await jobs.make_due(bad.id)
        dead = await jobs.reaches(bad.id, JobState.FAILED)
        neighbour.go.set()
        done = await jobs.reaches(beside.id, JobState.SUCCEEDED)
    assert runs[bad.id] == 3
    assert dead.dead_lettered
    assert dead.failure is not None
    assert dead.failure.reason == "WORKER_CRASH_LOOP"
    assert (done.attempt, done.fence) == (1, 1)
    assert runs[large.id] == 1, "it would need as much memory again"
    assert too_large.failure is not None
    assert (too_large.failure.reason, too_large.dead_lettered) == ("RESULT_TOO_LARGE", False)


async def test_work_stops_when_it_is_told_to_also_where_nobody_hears(
    jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A coroutine and a child process, with hints alone; then with polls alone, the listening connections cut."""
    waiting, spinning = Waiting(), asyncio.Queue[tuple[int, int]]()

    async def spin(context: JobContext) -> JobResult:
        async with context.children.child("tests.support.job_children:spin", None) as child:
            pids = await child.receive()
            assert isinstance(pids, tuple)
            spinning.put_nowait(pids)
            await child.receive()
        return JobResult()

    async def cancelled(kind: str) -> float:
        job = await jobs.ports.store.submit(submission(kind=kind))
        pids = await spinning.get() if kind == "spin" else ()
        if kind != "spin":
            await waiting.begun.get()
        if not hints:
            await jobs.admin.execute(CUT)
        asked = time.perf_counter()
        await jobs.ports.store.cancel("acme", job.id, "ada")
        await jobs.reaches(job.id, JobState.CANCELLED)
        took = time.perf_counter() - asked
        for pid in pids:
            await ended(pid)
        return took

    kinds = {"spin": TestKind(spin, "spin"), "test": TestKind(waiting)}
    for hints, pace in ((True, PATIENT), (False, QUICK)):
        async with children() as own, worker(jobs.ports, kinds, tmp_path, children=own, pace=pace) as running:
            await jobs.listening()
            await running.leased()
            took = {kind: await cancelled(kind) for kind in kinds}
        with capsys.disabled():
            what = ", ".join(f"{kind} {1000 * seconds:.0f} ms" for kind, seconds in took.items())
            print(f"\ncancelled {'by hints' if hints else 'by polls'}: {what}")  # noqa: T201 - the figure
