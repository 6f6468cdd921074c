"""PostgreSQL is away: the breaker opens, says so, and closes again without anybody asking; jobs live through it too."""

from __future__ import annotations

import asyncio

import grpc.aio
from google.rpc import error_details_pb2

from querybroker.v1 import admin_service_pb2, job_pb2, job_service_pb2
from querybroker.v1.job_service_pb2_grpc import JobServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.rpc.raw import detail, status, trailers
from tests.support.eventually import eventually
from tests.system.conftest import System, dashboard, query


async def failure(system: System) -> grpc.aio.AioRpcError | None:
    """How one call ends; None when it is answered."""
    async with system.channel() as channel:
        try:
            await QueryServiceStub(channel).Dashboard(dashboard(query(measures=["events"])), timeout=10)
        except grpc.aio.AioRpcError as error:
            return error
    return None


async def breaker(system: System) -> str:
    """The state of the primary's breaker, as operators see it."""
    (backend,) = (await system.state()).backends
    return admin_service_pb2.BreakerState.Name(backend.breaker).removeprefix("BREAKER_STATE_")


async def test_an_outage_is_told_at_once_with_its_cause_and_is_over_by_itself(own_system: System) -> None:
    assert await own_system.answers() == 200_000
    assert await breaker(own_system) == "CLOSED"
    await asyncio.to_thread(own_system.postgres.stop, "fast")
    told: dict[str, str] = {}
    refusals: list[grpc.aio.AioRpcError] = []

    async def refused() -> bool:
        error = await failure(own_system)
        assert error is not None
        info = detail(status(error), error_details_pb2.ErrorInfo)
        assert info is not None
        assert (error.code(), info.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        told.update(info.metadata)
        refusals.append(error)
        return info.metadata.get("breaker") == "open"

    await eventually(refused, "the breaker is open")
    error = refusals[-1]
    assert told["error"] == "connection_refused"
    assert told["backend"] == "primary"
    assert "connection refused" in (error.details() or "")
    retry = detail(status(error), error_details_pb2.RetryInfo)
    assert retry is not None
    hint = retry.retry_delay.ToTimedelta().total_seconds()
    assert 0 < hint <= 6
    assert int(str(trailers(error)["grpc-retry-pushback-ms"])) == round(hint * 1000)

    async def shown() -> bool:
        (backend,) = (await own_system.state()).backends
        return backend.breaker == admin_service_pb2.BREAKER_STATE_OPEN and "refused" in backend.last_error

    await eventually(shown, "operators see it")
    async with own_system.channel() as channel:
        jobs = JobServiceStub(channel)
        spec = job_pb2.JobSpec(export=job_pb2.ExportJob(query=query(dimensions=["id"])))
        request = job_service_pb2.SubmitJobRequest(
            spec=spec, request_id="5f6c9f57-9f5a-4f0c-8a42-8d7a4ce2a1c5"
        )

        async def submitted() -> bool:
            try:
                await jobs.SubmitJob(request, timeout=10)
            except grpc.aio.AioRpcError:
                return False
            return True

        assert not await submitted()
        await asyncio.to_thread(own_system.postgres.start)

        async def closed() -> bool:
            return await breaker(own_system) == "CLOSED"

        await eventually(closed, "the broker's own checks close it")
        assert await own_system.answers() == 200_000
        await eventually(submitted, "jobs are taken again")
        listed = await jobs.ListJobs(job_service_pb2.ListJobsRequest(), timeout=10)
        assert len(listed.jobs) == 1
    lines = own_system.broker.log.read_text()
    assert "is left alone for" in lines
    assert "answers again" in lines
