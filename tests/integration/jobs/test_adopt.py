"""Work that becomes a job while its lease ends or its caller leaves: it is stopped, and nothing is left behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobState
from broker.domain.query import Query
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy
from broker.domain.work import ExportWork, JobAsk
from broker.jobs.adopter import Adopter
from broker.pipeline.adopted import Adoptable
from broker.pipeline.flow import Flow
from broker.policy.resolve import resolve_query
from broker.ports.jobs import Submission
from broker.runtime.clock import SystemClock
from tests.support.datasets import flights
from tests.support.jobs import PRINCIPAL, Jobs, submission
from tests.support.workers import TestKind, Waiting, worker


@pytest.mark.parametrize("known", [True, False], ids=["while it is stored", "before it begins"])
async def test_work_adopted_under_a_lease_that_ends_is_stopped(
    jobs: Jobs, tmp_path: Path, known: bool
) -> None:
    waiting, released = Waiting(), asyncio.Event()
    async with worker(jobs.ports, {}, tmp_path, slots=0) as running:
        await running.leased()

        async def store(worker_id: str) -> Job | None:
            job = await jobs.ports.adoption.adopt(worker_id, submission())
            running.lost(released.set)
            if known:
                await released.wait()
            return job

        job = await running.adopt(store, TestKind(waiting))
        assert job is not None, "its row is there, and workers will run it"
        async with asyncio.timeout(30):
            assert await waiting.stopped.get() == job.id
            await running.idle()


NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUERY = Query("flights", ("flights",), ("origin",))


@pytest.mark.parametrize("leaves", [True, False], ids=["caller leaves", "reply is lost"])
async def test_a_job_that_nobody_was_told_of_is_cancelled(jobs: Jobs, tmp_path: Path, leaves: bool) -> None:
    storing, go, stored = asyncio.Event(), asyncio.Event(), asyncio.Event()
    unused: Any = None
    given = submission()
    work = Adoptable(
        resolve_query(QUERY, flights(), PRINCIPAL, NOW),
        Flow(),
        asyncio.create_task(asyncio.Event().wait()),  # type: ignore[arg-type] # what it returns is not used
    )

    async def store(worker_id: str, asked: Submission) -> Job | None:
        storing.set()
        await go.wait()
        job = await jobs.ports.adoption.adopt(worker_id, asked)
        stored.set()
        if not leaves:
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "The reply was lost.")
        return job

    async with worker(jobs.ports, {}, tmp_path, slots=0) as running:
        await running.leased()
        adopter = Adopter(
            unused,
            store,
            jobs.ports.store.cancel,
            lambda _context, _ask: given,
            unused,
            SystemClock(),
            60.0,
            _worker=running,
        )
        ask = JobAsk(ExportWork(QUERY), AnswerPolicy(), "", b"", "")
        adopting = asyncio.create_task(
            adopter.adopt(CallContext("r", PRINCIPAL, Deadline(0.0), NOW), ask, work)
        )
        await storing.wait()
        if leaves:
            adopting.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError if leaves else BrokerError):
            await adopting
        await stored.wait()  # it goes on behind the caller who has left
        await jobs.reaches(given.id, JobState.CANCELLED)
        await running.idle()
    await work.stop()
