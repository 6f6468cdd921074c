"""Jobs take seats of the same database as callers do: a worker's are leased, and its attempts wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import pytest

from querybroker.v1 import admin_service_pb2, job_pb2, query_service_pb2
from querybroker.v1 import job_service_pb2 as pb
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.job_service_pb2_grpc import JobServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import Connection, Databases, prepare, run_sync
from tests.support.server import RunningBroker, running_broker
from tests.system.conftest import CHANNEL, MODEL, SCHEMA, dashboard, query

SEATS = 4
LOCKED = query("locked", measures=["rows"], dimensions=["note"])
READING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'
"""


@pytest.fixture
def dsn(databases: Databases) -> str:
    made = run_sync(databases.create())
    run_sync(prepare(made, SCHEMA))
    return made


@pytest.fixture
def broker(dsn: str, tmp_path: Path) -> Iterator[RunningBroker]:
    """A broker and a worker with slots for more jobs than there are seats."""
    config = tmp_path / "broker.yaml"
    config.write_text(MODEL)
    overrides = {
        "pools.dashboard.workers": 1,
        "pools.exploration.workers": 1,
        "database.limit.seats": SEATS,
        "jobs.slots": 6,
        "pools.job.connections": 6,
        "pools.job.in_flight": 6,
    }
    with (
        running_broker(dsn, tmp_path, config=config, overrides=overrides) as serving,
        running_broker(dsn, tmp_path, config=config, overrides=overrides, role="worker"),
    ):
        yield serving


@pytest.fixture
async def channel(broker: RunningBroker) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(broker.address, options=CHANNEL) as opened:
        yield opened


@pytest.fixture
async def holder(dsn: str) -> AsyncIterator[Connection]:
    """Holds what every statement on the view waits for, until the test lets go."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("SELECT pg_advisory_lock(42)")
    yield connection
    await connection.close()


async def submit(channel: Any) -> str:
    spec = job_pb2.JobSpec(export=job_pb2.ExportJob(query=LOCKED, format=job_pb2.EXPORT_FORMAT_CSV))
    submitted: pb.SubmitJobResponse = await JobServiceStub(channel).SubmitJob(
        pb.SubmitJobRequest(spec=spec), timeout=20
    )
    return submitted.job.name


async def ends(channel: Any, name: str) -> job_pb2.Job:
    watched = JobServiceStub(channel).WatchJob(pb.WatchJobRequest(name=name), timeout=60)
    events: list[job_pb2.Job] = [event.job async for event in watched]
    return events[-1]


async def test_attempts_wait_for_seats_and_leave_callers_theirs(
    channel: grpc.aio.Channel, holder: Connection, dsn: str
) -> None:
    beside = await asyncpg.connect(dsn)
    names = [await submit(channel) for _ in range(6)]
    running: list[int] = []

    async def as_many_as_may() -> bool:
        running.append(await beside.fetchval(READING))
        state = await AdminServiceStub(channel).GetState(admin_service_pb2.GetStateRequest(), timeout=10)
        told = {member.kind: member for member in state.state.fleet}
        demand = "worker" in told and told["worker"].demand == 6
        return demand and told["worker"].seats_used == told["worker"].seats == running[-1] == SEATS - 1

    await eventually(as_many_as_may, "the worker uses all seats but those that dashboards keep")
    assert max(running) < SEATS
    waiting = [
        (await JobServiceStub(channel).GetJob(pb.GetJobRequest(name=name), timeout=10)).job.progress.phase
        for name in names
    ]
    assert waiting.count("reading") == SEATS - 1

    async def answered() -> query_service_pb2.DashboardResponse:
        asked = dashboard(query(measures=["events"]))
        response: query_service_pb2.DashboardResponse = await QueryServiceStub(channel).Dashboard(
            asked, timeout=30
        )
        return response

    assert (await answered()).panels[0].HasField("table")
    await holder.execute("SELECT pg_advisory_unlock(42)")
    done = await asyncio.gather(*(ends(channel, name) for name in names))
    assert {job.state for job in done} == {job_pb2.JOB_STATE_SUCCEEDED}
    await beside.close()
