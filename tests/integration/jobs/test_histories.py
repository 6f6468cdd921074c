"""Random histories of the job layer on PostgreSQL, every step compared with the small model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from broker.domain.attempts import CRASH_LIMIT, Fault, ending
from broker.domain.job import Job, JobFailure, JobProgress, JobResult
from broker.ports.jobs import JobSignal
from tests.support import job_model
from tests.support.job_model import Model, Step
from tests.support.jobs import Jobs, job_database, submission
from tests.support.pg import Databases, run_sync

MOST = 4
EMPTY = ";".join(
    f"DELETE FROM broker.{table}" for table in ("job_part", "job_attempt", "job_request", "job", "worker")
)
PASSING = Fault(JobFailure("OVERLOADED", "again"), retryable=True)
OVERDUE = (
    "UPDATE broker.job SET attempt_deadline = now() - interval '1 hour' WHERE id = $1 AND state = 'running'"
)


class Real:
    """The layer, driven step by step as the model is."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._ids: list[str] = []
        self._workers: list[str] = []
        self._claims: list[tuple[int, int, Job]] = []

    async def start(self, jobs: int, workers: int) -> None:
        """Jobs of kinds of their own, so that each can be claimed by itself."""
        await self._jobs.admin.execute(EMPTY)
        self._jobs.ports.queue.hear(JobSignal(resync=True))
        made = [submission(kind=f"kind{j}", max_attempts=MOST) for j in range(jobs)]
        self._ids = [(await self._jobs.ports.store.submit(given)).id for given in made]
        self._workers = [await self._jobs.worker() for _ in range(workers)]
        self._claims = []

    async def take(self, step: Step) -> bool | None:
        """Does the step; whether a write or a renewal was accepted."""
        name, w, j = step
        ports = self._jobs.ports
        match name:
            case "claim":
                claimed = await ports.queue.claim(self._workers[w], [f"kind{j}"], 1)
                self._claims += [(w, j, job) for job in claimed]
                return bool(claimed)
            case "succeed" | "fail" | "release" | "confirm":
                return await self._write(name, w, j)
            case "pause":
                await self._jobs.lose(self._workers[w])
            case "renew":
                lease = ports.lease()
                renewed = await lease.renew(self._workers[w], 3600.0)
                await lease.close()
                return renewed
            case "restart":
                self._workers.append(await self._jobs.worker())
            case "reap":
                await ports.keeper.reap(lambda: 0.0)
            case "overdue":
                await self._jobs.admin.execute(OVERDUE, self._ids[j])
                await ports.keeper.reap(lambda: 0.0)
            case "cancel":
                await ports.store.cancel("acme", self._ids[j], "ada")
            case "requeue":
                await ports.store.requeue("acme", self._ids[j], 1)
            case _:
                pass  # a crash, of which the database learns nothing
        return None

    async def _write(self, name: str, w: int, j: int) -> bool:
        queue = self._jobs.ports.queue
        entry = next(entry for entry in self._claims if entry[:2] == (w, j))
        job = entry[2]
        match name:
            case "succeed":
                written = await queue.succeed(job, JobResult(row_count=job.fence), JobProgress(), 3600.0)
            case "fail":
                written = await queue.fail(job, ending(job, PASSING, 0.0))
            case "release":
                written = await queue.release(job)
            case _:
                written = await queue.cancelled(job)
        self._claims.remove(entry)
        return written

    def forget(self, claims: tuple[tuple[job_model.Claim, ...], ...]) -> None:
        """Keeps the claims that the model's workers still believe in."""
        known = {(w, c.job, c.fence) for w, believed in enumerate(claims) for c in believed}
        self._claims = [e for e in self._claims if (e[0], e[1], e[2].fence) in known]

    async def rows(self) -> list[tuple[object, ...]]:
        """What the model knows of each job."""
        found = [await self._jobs.get(job_id) for job_id in self._ids]
        return [
            (j.state, j.fence, j.attempt, j.crash_count, j.cancel_requested, j.dead_lettered, j.max_attempts,
             j.result is not None)
            for j in found
        ]  # fmt: skip


@pytest.fixture
def opened(databases: Databases) -> Iterator[tuple[asyncio.Runner, Jobs]]:
    """A job database with an event loop of its own, because machines are driven from synchronous code."""
    dsn = run_sync(databases.create())
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner, runner.run(stack.enter_async_context(job_database(dsn)))
        runner.run(stack.aclose())
    run_sync(databases.drop(dsn))


def test_every_history_goes_as_the_model_says(opened: tuple[asyncio.Runner, Jobs]) -> None:
    runner, jobs = opened
    model = Model(crash_limit=CRASH_LIMIT, restarts=2, most_fence=8)

    class Histories(RuleBasedStateMachine):
        """One rule, which draws a step among those that the model knows."""

        @initialize()
        def begin(self) -> None:
            self.world = model.start(2, 2, MOST)
            self.real = Real(jobs)
            runner.run(self.real.start(2, 2))

        @rule(data=st.data())
        def step(self, data: st.DataObject) -> None:
            step = data.draw(st.sampled_from(list(model.steps(self.world))))
            before, name = self.world, step[0]
            if name == "confirm" and not before.jobs[step[2]].cancel:
                return  # a worker confirms only what it was asked
            after = model.take(before, step)
            if name == "overdue":  # a reaper looks for lost workers first
                after = model.take(model.take(before, ("reap", -1, -1)), step)
            accepted = runner.run(self.real.take(step))
            if name == "renew":
                assert accepted == (not before.workers[step[1]].lost)
            elif accepted is not None:
                assert accepted == (after.jobs != before.jobs)
            self.world = after
            self.real.forget(tuple(worker.claims for worker in after.workers))
            assert model.wrong(after) is None
            assert runner.run(self.real.rows()) == [
                (j.state, j.fence, j.attempt, j.crashes, j.cancel, j.dead, j.most, j.effects == 1)
                for j in after.jobs
            ]

    run_state_machine_as_test(
        Histories, settings=settings(max_examples=12, stateful_step_count=30, deadline=None)
    )
