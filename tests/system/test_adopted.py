"""Explorations that outlive their deadline: they end with it, or go on as jobs with what they have read."""

from __future__ import annotations

import asyncio
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
from tests.system.test_exports import LOCK, Stub, read, watch, worker

ROWS = 60_000
LOCKS = {"locked": LOCK, "slow": LOCK + 1}
VIEW = """
CREATE OR REPLACE VIEW {name} AS
SELECT i::bigint AS id, CASE i WHEN {rows} THEN pg_advisory_xact_lock_shared({lock})::text ELSE 'note-' || i END AS note
FROM generate_series(1, {rows}) AS i
"""
ROOM = {"database.limit.seats": 16, "pools.exploration.connections": 8}
"""For explorations that wait beside each other."""
DEADLINES = (3.0, 12.0, 48.0)
"""In seconds; the longer ones are for machines that do not even begin to read within the first."""
CANCEL = policy_pb2.AnswerPolicy()
JOB = policy_pb2.AnswerPolicy(on_deadline=policy_pb2.DEADLINE_ACTION_JOB)


@asynccontextmanager
async def locking(system: System) -> AsyncIterator[Connection]:
    """A connection that may hold what the last rows of the views wait for."""
    control = await asyncpg.connect(system.dsn)
    for name, lock in LOCKS.items():
        await control.execute(f"DROP VIEW {name}")
        await control.execute(VIEW.format(name=name, rows=ROWS, lock=lock))
    yield control
    await control.close()


async def explore(
    channel: grpc.aio.Channel, dataset: str, policy: policy_pb2.AnswerPolicy, seconds: float
) -> answer_pb2.AnswerStatus:
    """The status at the end of an exploration."""
    request = query_service_pb2.ExploreRequest(
        query=query(dataset, dimensions=["note"]),
        policy=policy,
        format=query_service_pb2.RESULT_FORMAT_ARROW,
    )
    stub: Stub = QueryServiceStub(channel)
    events = [event async for event in stub.Explore(request, timeout=seconds)]
    assert events[0].HasField("header")
    assert events[-1].HasField("status")
    status: answer_pb2.AnswerStatus = events[-1].status
    return status


async def adopted(channel: grpc.aio.Channel, dataset: str, control: asyncpg.Pool, late: list[float]) -> str:
    """The job of an exploration that has found the lock taken; ``late`` gets deadlines that its status missed."""
    jobs: Stub = JobServiceStub(channel)
    for seconds in DEADLINES:
        try:
            status = await explore(channel, dataset, JOB, seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            late.append(seconds)
            continue
        assert (status.exactness, status.degraded) == (answer_pb2.EXACTNESS_PARTIAL, True)
        found = await control.fetchrow(
            "SELECT state, attempt, fence FROM broker.job WHERE id = $1", status.job.rpartition("/")[2]
        )
        assert found is not None
        if tuple(found) == ("running", 1, 1):
            return status.job
        assert tuple(found) == ("queued", 0, 0), "it had not begun"
        await jobs.CancelJob(pb.CancelJobRequest(name=status.job))
    raise AssertionError("never adopted")


async def given_up(channel: grpc.aio.Channel, dataset: str) -> None:
    """An exploration whose caller wants no job."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await explore(channel, dataset, CANCEL, DEADLINES[0])
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def reads(control: Connection, view: str, count: int) -> None:
    """Waits until so many statements read the view."""
    text = """
    SELECT count(*) FROM pg_stat_activity
    WHERE state = 'active' AND backend_type = 'client backend' AND query LIKE $1
    """

    async def holds() -> bool:
        return bool(await control.fetchval(text, f"COPY%public.{view} %") == count)

    await eventually(holds, f"{count} statements read {view}")


@pytest.mark.parametrize("own_system", [ROOM], indirect=True)
async def test_work_goes_on_as_the_first_attempt_of_a_job(own_system: System, tmp_path: Path) -> None:
    async with (
        own_system.channel() as channel,
        locking(own_system) as control,
        asyncpg.create_pool(own_system.dsn, min_size=0, max_size=1) as looking,
    ):
        jobs: Stub = JobServiceStub(channel)
        assert (await explore(channel, "locked", JOB, DEADLINES[-1])).job == "", "it ended in time"
        leased = "SELECT count(*) > 0 FROM broker.worker"
        await eventually(lambda: control.fetchval(leased), "there is a lease for what may be adopted")
        for lock in LOCKS.values():
            await control.execute(f"SELECT pg_advisory_lock({lock})")

        # All wait for the same deadline, one after the other it would take too long.
        late: list[float] = []
        unwanted, wanted, surviving, _ = await asyncio.gather(
            adopted(channel, "locked", looking, late),
            adopted(channel, "locked", looking, late),
            adopted(channel, "slow", looking, late),
            given_up(channel, "slow"),
        )
        live = "SELECT id FROM broker.job WHERE state IN ('queued', 'running') AND id <> ALL ($1)"
        folder, _, _ = wanted.rpartition("/")
        told = [name.rpartition("/")[2] for name in (unwanted, wanted, surviving)]
        others = await control.fetch(live, told)
        assert len(others) <= len(late), "no job of who wanted none"
        for other in others:  # its caller was gone before being told of it
            await jobs.CancelJob(pb.CancelJobRequest(name=f"{folder}/{other['id']}"))
        await reads(control, "slow", 1)
        await reads(control, "locked", 2)

        await jobs.CancelJob(pb.CancelJobRequest(name=unwanted))
        last = (await watch(jobs, unwanted))[-1]
        assert (last.state, last.HasField("result")) == (job_pb2.JOB_STATE_CANCELLED, False)
        await reads(control, "locked", 1)

        await control.execute(f"SELECT pg_advisory_unlock({LOCKS['locked']})")
        last = (await watch(jobs, wanted))[-1]
        assert (last.state, last.attempt, last.result.row_count) == (job_pb2.JOB_STATE_SUCCEEDED, 1, ROWS)
        table = pa.ipc.open_file(await read(jobs, wanted)).read_all()
        notes = set(table["note"].to_pylist())
        assert (len(notes), {f"note-{i}" for i in range(1, ROWS)} - notes) == (ROWS, set())

        own_system.broker.process.kill()
        await reads(control, "slow", 0)
        await control.execute(f"SELECT pg_advisory_unlock({LOCKS['slow']})")
        await control.execute("UPDATE broker.worker SET lease_expire_time = now()")
        with worker(own_system, tmp_path / "worker"):

            async def succeeded() -> bool:
                await control.execute(
                    "UPDATE broker.job SET run_at = now(), queue_rank = now() WHERE state = 'queued'"
                )
                row = await control.fetchrow(
                    "SELECT state, attempt FROM broker.job WHERE id = $1", surviving.rpartition("/")[2]
                )
                return row is not None and tuple(row) == ("succeeded", 2)

            await eventually(succeeded, "a worker does it again")
