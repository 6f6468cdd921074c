"""One export through S3 and two brokers: watched at one, then at the other from there on, read at any offset, swept."""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from broker.adapters.pg_jobs_open import PgJobs, open_jobs
from broker.adapters.result_s3 import S3Results
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import ExportFormat, Job, JobState, part_prefix
from broker.domain.principal import Principal
from broker.domain.request import CallContext
from broker.jobs.hub import JobHub
from broker.jobs.service import JobService
from broker.jobs.upkeep import Upkeep
from broker.runtime.clock import SystemClock
from tests.conftest import FreshDatabase
from tests.support.exports import GATE, ROWS, SEES_ALL, closed_gate, export, export_kind, someone_waits
from tests.support.jobs import job_database
from tests.support.s3 import BUCKET, s3_environment, s3_server
from tests.support.workers import worker

ADDRESS = f"s3://{BUCKET}/here"
BOB = Principal("bob", "acme")


def call(principal: Principal = SEES_ALL) -> CallContext:
    return CallContext("call-1", principal, Deadline(1e12), datetime.now(UTC))


async def broker(stack: AsyncExitStack, ports: PgJobs, folder: Path) -> JobService:
    """What a broker keeps of jobs, with a hub and a store of its own."""
    hub = JobHub(ports.store, ports.signals)
    await stack.enter_async_context(hub.running())
    return JobService(ports.store, hub, S3Results(ADDRESS, folder), {}, SystemClock(), lambda: "")


async def read(app: JobService, job: Job, index: int, offset: int) -> bytes:
    pieces = app.read_result(call(), "acme", job.id, index, offset)
    return b"".join([piece.data async for piece in pieces])


async def test_an_export_through_s3_and_two_brokers(fresh_database: FreshDatabase, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(s3_environment(stack.enter_context(s3_server())))
        jobs = await stack.enter_async_context(job_database(await fresh_database(flights=True)))
        await jobs.admin.execute(GATE)
        kind = replace(await stack.enter_async_context(export_kind(jobs.dsn, 1)), inline_bytes=0)
        store = S3Results(ADDRESS, tmp_path / "worker")
        await stack.enter_async_context(
            worker(jobs.ports, {"export": kind}, tmp_path, results=store, seconds=30.0)
        )
        one = await broker(stack, jobs.ports, tmp_path / "one")
        opened = open_jobs(jobs.dsn, connections=2, clock=monotonic, rng=Random(3))
        other = await broker(stack, await stack.enter_async_context(opened), tmp_path / "other")

        hourly = replace(ROWS, dimensions=("time_hour", *ROWS.dimensions, "dep_delay"))
        submitted = await jobs.ports.store.submit(export(hourly, ExportFormat.CSV))
        async with closed_gate(jobs):
            seen = 0
            async with aclosing(one.watch(call(), "acme", submitted.id, 0)) as events:
                async for event in events:
                    seen = event.job.revision
                    if event.job.state is JobState.RUNNING:
                        break
            await someone_waits(jobs)
        later = [event async for event in other.watch(call(), "acme", submitted.id, seen)]
        revisions = [event.job.revision for event in later]
        assert revisions == sorted(set(revisions))
        assert revisions[0] > seen
        job = later[-1].job
        assert job.state is JobState.SUCCEEDED
        assert job.result is not None
        assert len(job.result.parts) > 1, "a part ends with each block, of which this much has several"
        for part in job.result.parts:
            data = await read(other, job, part.index, 0)
            assert (len(data), hashlib.sha256(data).digest()) == (part.byte_count, part.sha256)
            assert await read(one, job, part.index, part.byte_count - 7) == data[-7:]
        with pytest.raises(BrokerError) as caught:
            [piece async for piece in other.read_result(call(BOB), "acme", job.id, 0, 0)]
        assert caught.value.reason is ErrorReason.JOB_NOT_FOUND

        orphan = part_prefix("acme", job.id, job.fence + 1)
        async with store.stage(orphan) as staging:
            (Path(staging.directory) / "part").write_bytes(b"of an attempt that was lost")
            await staging.publish("part")
        own = part_prefix("acme", job.id, job.fence)
        assert await store.prefixes() == [own, orphan]
        await Upkeep(jobs.ports.keeper, store, Random(1), 3600.0).sweep()
        assert await store.prefixes() == [own]
        await other.delete(call(), "acme", job.id)
        assert await store.prefixes() == []
