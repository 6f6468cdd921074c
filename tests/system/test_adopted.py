"""Explorations that outlive their deadline: they end with it, or go on as jobs with what they have read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import grpc
import grpc.aio
import pyarrow as pa
import pytest

from querybroker.v1 import answer_pb2, job_pb2, policy_pb2, query_service_pb2
from querybroker.v1 import job_service_pb2 as pb
from querybroker.v1.job_service_pb2_grpc import JobServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import Connection
from tests.system.conftest import System, query
from tests.system.test_exports import LOCK, Stub, read, reads, watch, worker

ROWS = 60_000
VIEW = f"""
CREATE OR REPLACE VIEW locked AS
SELECT i::bigint AS id, CASE i WHEN {ROWS} THEN pg_advisory_xact_lock_shared({LOCK})::text ELSE 'note-' || i END AS note
FROM generate_series(1, {ROWS}) AS i
"""
CANCEL = policy_pb2.AnswerPolicy()
JOB = policy_pb2.AnswerPolicy(on_deadline=policy_pb2.DEADLINE_ACTION_JOB)


@asynccontextmanager
async def locking(system: System) -> AsyncIterator[Connection]:
    """A connection that may hold what the last row of the view waits for."""
    control = await asyncpg.connect(system.dsn)
    await control.execute(VIEW)
    yield control
    await control.close()


async def explore(channel: grpc.aio.Channel, policy: policy_pb2.AnswerPolicy) -> answer_pb2.AnswerStatus:
    """The status at the end of an exploration that has 1.2 seconds."""
    request = query_service_pb2.ExploreRequest(
        query=query("locked", dimensions=["note"]),
        policy=policy,
        format=query_service_pb2.RESULT_FORMAT_ARROW,
    )
    stub: Stub = QueryServiceStub(channel)
    events = [event async for event in stub.Explore(request, timeout=1.2)]
    assert events[0].HasField("header")
    assert events[-1].HasField("status")
    status: answer_pb2.AnswerStatus = events[-1].status
    return status


async def adopted(channel: grpc.aio.Channel, control: Connection) -> str:
    """The job of an exploration that has found the lock taken."""
    status = await explore(channel, JOB)
    assert (status.exactness, status.degraded) == (answer_pb2.EXACTNESS_PARTIAL, True)
    found = await control.fetchrow(
        "SELECT state, attempt, fence FROM broker.job ORDER BY create_time DESC LIMIT 1"
    )
    assert found is not None
    assert tuple(found) == ("running", 1, 1)
    await reads(control, "locked", wanted=True)
    return status.job


async def test_work_goes_on_as_the_first_attempt_of_a_job(own_system: System, tmp_path: Path) -> None:
    async with own_system.channel() as channel, locking(own_system) as control:
        jobs: Stub = JobServiceStub(channel)
        assert (await explore(channel, JOB)).job == "", "it ended in time"
        await control.execute(f"SELECT pg_advisory_lock({LOCK})")

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await explore(channel, CANCEL)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await reads(control, "locked", wanted=False)
        assert await control.fetchval("SELECT count(*) FROM broker.job") == 0

        name = await adopted(channel, control)
        await control.execute(f"SELECT pg_advisory_unlock({LOCK})")
        last = (await watch(jobs, name))[-1]
        assert (last.state, last.attempt, last.result.row_count) == (job_pb2.JOB_STATE_SUCCEEDED, 1, ROWS)
        table = pa.ipc.open_file(await read(jobs, name)).read_all()
        notes = set(table["note"].to_pylist())
        assert (len(notes), {f"note-{i}" for i in range(1, ROWS)} - notes) == (ROWS, set())

        await control.execute(f"SELECT pg_advisory_lock({LOCK})")
        name = await adopted(channel, control)
        await jobs.CancelJob(pb.CancelJobRequest(name=name))
        last = (await watch(jobs, name))[-1]
        assert (last.state, last.HasField("result")) == (job_pb2.JOB_STATE_CANCELLED, False)
        await reads(control, "locked", wanted=False)

        name = await adopted(channel, control)
        own_system.broker.process.kill()
        await reads(control, "locked", wanted=False)
        await control.execute(f"SELECT pg_advisory_unlock({LOCK})")
        await control.execute("UPDATE broker.worker SET lease_expire_time = now()")
        with worker(own_system, tmp_path / "worker"):

            async def succeeded() -> bool:
                await control.execute(
                    "UPDATE broker.job SET run_at = now(), queue_rank = now() WHERE state = 'queued'"
                )
                row = await control.fetchrow(
                    "SELECT state, attempt FROM broker.job WHERE id = $1", name.rpartition("/")[2]
                )
                return row is not None and tuple(row) == ("succeeded", 2)

            await eventually(succeeded, "a worker does it again")
