"""What operators do and see: the state, health while PostgreSQL comes and goes, and draining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from querybroker import QueryBrokerError
from querybroker.v1 import admin_service_pb2, job_pb2, job_service_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.job_service_pb2_grpc import JobServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.system.conftest import SLOW, System, dashboard, query
from tests.system.secured import Secured, as_caller

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
QUERIES, JOBS, CATALOG = (f"querybroker.v1.{name}Service" for name in ("Query", "Job", "Catalog"))


Becomes = Callable[[int], Awaitable[None]]
"""Waits until a service's health is a certain one."""


def health_stub(channel: grpc.aio.Channel) -> Any:
    """Health, of whose methods the published types know nothing."""
    return HealthStub(channel)


@asynccontextmanager
async def watched(channel: grpc.aio.Channel, service: str) -> AsyncIterator[Becomes]:
    """Follows the health of a service."""
    call = health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=service))

    async def becomes(wanted: int) -> None:
        while (await call.read()).status != wanted:
            pass

    yield becomes
    call.cancel()


async def reason(call: Awaitable[object]) -> str:
    """How a call ended."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return QueryBrokerError.from_rpc_error(error).reason
    return ""


async def test_the_state_says_what_is_going_on(own_system: System) -> None:
    async with own_system.channel() as channel:
        admin, queries = AdminServiceStub(channel), QueryServiceStub(channel)
        before = await own_system.state()
        call = asyncio.ensure_future(reason(queries.Dashboard(dashboard(SLOW), timeout=60)))
        watch = admin.WatchState(admin_service_pb2.WatchStateRequest(interval=Duration(nanos=100_000_000)))
        async for event in watch:
            if event.state.pools[0].seats_used:
                break
        state = event.state
        watch.cancel()
        pools = {pool.name: pool for pool in state.pools}
        assert set(pools) == {"dashboard", "exploration", "admin"}
        busy, idle = pools["dashboard"], pools["exploration"]
        assert (busy.seats_used, busy.connection_count) == (1, 1)
        assert (busy.worker_count, pools["admin"].worker_count, idle.seats_used) == (1, 0, 0)
        assert [(tenant.tenant, tenant.seats_used) for tenant in busy.tenants] == [("default", 1)]
        assert busy.admitted_count == before.pools[0].admitted_count + 1
        assert all(pool.connection_limit > 0 for pool in state.pools)
        (primary,) = state.backends
        assert (primary.name, primary.seats_used) == ("primary", 1)
        assert 0 < idle.seat_limit < busy.seat_limit < primary.limit
        (member,) = state.fleet
        assert (member.instance_id, member.kind, member.backend) == (state.instance_id, "broker", "primary")
        assert (member.seats_used, member.demand) in {(0, 0), (1, 1)}  # as it was told to others of late
        assert primary.server_version.startswith("18")
        assert 10 << 20 < state.resident_byte_count < 1 << 30
        assert state.start_time.ToNanoseconds() < before.read_time.ToNanoseconds()
        assert before.read_time.ToNanoseconds() < state.read_time.ToNanoseconds()
        assert not state.draining
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


async def test_only_operators_may_look(secured: Secured) -> None:
    async with secured.plain() as channel:
        admin = AdminServiceStub(channel)
        for name in ("alice", "carol", "bob"):
            told = await reason(admin.GetState(admin_service_pb2.GetStateRequest(), metadata=as_caller(name)))
            assert told == "PERMISSION_DENIED"
            told = await reason(admin.Drain(admin_service_pb2.DrainRequest(), metadata=as_caller(name)))
            assert told == "PERMISSION_DENIED"
        told = await reason(admin.GetState(admin_service_pb2.GetStateRequest(), metadata=as_caller("boss")))
        assert told == ""


async def test_health_follows_postgresql_service_by_service(own_system: System) -> None:
    async with (
        own_system.channel() as channel,
        watched(channel, QUERIES) as queries,
        watched(channel, JOBS) as jobs,
        watched(channel, "") as whole,
    ):
        followed = (queries, jobs, whole)
        for becomes in followed:
            await becomes(SERVING)
        await asyncio.to_thread(own_system.postgres.stop, "fast")
        for becomes in followed:
            await becomes(NOT_SERVING)
        for service in (CATALOG, "liveness"):
            asked = health_pb2.HealthCheckRequest(service=service)
            assert (await health_stub(channel).Check(asked)).status == SERVING
        assert "cannot answer" in (await own_system.state()).backends[0].last_error
        listed = JobServiceStub(channel).ListJobs(job_service_pb2.ListJobsRequest(), timeout=20)
        assert await reason(listed) == "STORE_UNAVAILABLE"
        await asyncio.to_thread(own_system.postgres.start)
        for becomes in followed:
            await becomes(SERVING)
        assert await own_system.answers() == 200_000
        assert (await own_system.state()).backends[0].last_error == ""


async def test_a_drain_ends_watches_and_what_still_runs_with_a_reason_and_then_the_process(
    own_system: System,
) -> None:
    async with own_system.channel() as channel:
        admin, jobs = AdminServiceStub(channel), JobServiceStub(channel)
        spec = job_pb2.JobSpec(export=job_pb2.ExportJob(query=query(dimensions=["id"])))
        job = (await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))).job  # no worker takes it
        watch = jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name))
        assert (await anext(aiter(watch))).job.name == job.name
        states = admin.WatchState(admin_service_pb2.WatchStateRequest())
        assert not (await anext(aiter(states))).state.draining
        running = asyncio.ensure_future(
            reason(QueryServiceStub(channel).Dashboard(dashboard(SLOW), timeout=60))
        )

        async def admitted() -> bool:
            return (await own_system.state()).pools[0].seats_used == 1

        await eventually(admitted, "the slow query runs")
        response = await admin.Drain(admin_service_pb2.DrainRequest(grace=Duration(nanos=500_000_000)))
        assert response.state.draining
        assert await reason(finished(watch)) == "DRAINING"
        assert await reason(finished(states)) == "DRAINING"
        assert await running == "DRAINING"
    assert await asyncio.to_thread(own_system.broker.process.wait, 60) == 0


async def finished(stream: AsyncIterable[object]) -> None:
    """Reads to the end."""
    async for _ in stream:
        pass


@pytest.mark.parametrize("method", ["ListRollups", "InvalidateCache"])
async def test_what_is_not_there_is_said_to_be_not_offered(system: System, method: str) -> None:
    async with system.channel() as channel:
        request = getattr(admin_service_pb2, f"{method}Request")()
        assert await reason(getattr(AdminServiceStub(channel), method)(request)) == "NOT_OFFERED"
