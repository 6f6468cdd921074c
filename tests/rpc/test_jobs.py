"""JobService and google.longrunning.Operations over the same jobs."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import grpc
import pytest
from google.longrunning import operations_proto_pb2 as lro
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.protobuf.duration_pb2 import Duration

from broker.domain.job import JobFailure, JobProgress, JobState
from broker.domain.query import Query
from broker.domain.terms import AnswerPolicy, CacheMode
from broker.domain.work import ExportWork
from broker.transport.decode_job import decode_job_spec
from querybroker.v1 import admin_service_pb2, job_pb2, policy_pb2, query_pb2
from querybroker.v1 import job_service_pb2 as pb
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.job_service_pb2_grpc import JobServiceStub
from tests.rpc.raw import read, reason, status
from tests.rpc.serving import Serving

QUERY = query_pb2.Query(dataset="flights", measures=["flights"])
SPEC = job_pb2.JobSpec(export=job_pb2.ExportJob(query=QUERY, format=job_pb2.EXPORT_FORMAT_CSV))
MINE = "123e4567-e89b-42d3-a456-426614174000"
OTHER = "123e4567-e89b-42d3-a456-426614174001"


def operations(broker: Serving) -> Any:
    return OperationsStub(broker.channel)  # type: ignore[no-untyped-call] # its package has no types for stubs


async def submit(broker: Serving, **fields: object) -> job_pb2.Job:
    request = pb.SubmitJobRequest(spec=SPEC, **fields)  # type: ignore[arg-type] # a test names fields of the message
    return (await JobServiceStub(broker.channel).SubmitJob(request)).job


async def test_a_job_comes_back_as_it_was_asked_for(broker: Serving) -> None:
    job = await submit(broker, request_id=MINE, priority=2, labels={"team": "ops"})
    assert job.name == "tenants/default/jobs/job001"
    assert job.spec == SPEC
    assert (job.request_id, job.priority, dict(job.labels)) == (MINE, 2, {"team": "ops"})
    assert (job.state, job.stage) == (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STAGE_QUEUED)
    found = await JobServiceStub(broker.channel).GetJob(pb.GetJobRequest(name=job.name))
    assert found.job == job


async def test_the_hash_of_a_job_leaves_its_request_id_out(broker: Serving) -> None:
    await submit(broker, request_id=MINE, labels={"a": "1", "b": "2"})
    await submit(broker, request_id=OTHER, labels={"b": "2", "a": "1"})
    await submit(broker, labels={"a": "1", "b": "2"}, validate_only=True)
    await submit(broker, labels={"a": "1"})
    first, second, checked, different = broker.jobs.asks
    assert first.spec_hash == second.spec_hash == checked.spec_hash != different.spec_hash
    assert checked.validate_only
    assert len({first.request_id, second.request_id, checked.request_id}) == 3


async def test_the_stored_bytes_are_the_ask_again(broker: Serving) -> None:
    policy = policy_pb2.AnswerPolicy(cache_mode=policy_pb2.CACHE_MODE_BYPASS)
    await submit(broker, request_id=MINE, priority=0, policy=policy)
    (ask,) = broker.jobs.asks
    again = decode_job_spec(ask.spec, AnswerPolicy())
    assert isinstance(again.work, ExportWork)
    assert again.work.source == Query("flights", ("flights",))
    assert (again.policy.cache, again.priority, again.path) == (CacheMode.BYPASS, 0, "spec.export")
    assert again.spec_hash == ask.spec_hash


async def test_pages_of_jobs_join_without_gap_or_repeat(broker: Serving) -> None:
    for _ in range(5):
        await submit(broker)
    stub, names, token = JobServiceStub(broker.channel), [], ""
    while True:
        page = await stub.ListJobs(pb.ListJobsRequest(page_size=2, page_token=token))
        names += [job.name.rpartition("/")[2] for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert names == ["job005", "job004", "job003", "job002", "job001"]


async def test_a_page_token_is_for_the_same_arguments_only(broker: Serving) -> None:
    for _ in range(2):
        await submit(broker)
    stub = JobServiceStub(broker.channel)
    page = await stub.ListJobs(pb.ListJobsRequest(page_size=1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListJobs(pb.ListJobsRequest(page_token=page.next_page_token, kind="export"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watch_ends_after_the_final_state(broker: Serving) -> None:
    job = await submit(broker)
    watch = JobServiceStub(broker.channel).WatchJob(pb.WatchJobRequest(name=job.name))
    first = await read(watch)
    progress = JobProgress("reading", 0.5, 100, 200, 5_000)
    await broker.jobs.change("job001", state=JobState.RUNNING, progress=progress)
    second = await read(watch)
    await broker.jobs.succeed("job001", b"data")
    third = await read(watch)
    assert await watch.read() is grpc.aio.EOF
    states = [e.job.state for e in (first, second, third)]
    assert states == [job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_SUCCEEDED]
    assert second.job.progress.fraction_known
    assert second.job.progress.row_count == 100
    assert third.job.result.parts[0].byte_count == 4
    assert "secret" not in str(third)


async def test_a_result_is_read_from_any_offset(broker: Serving) -> None:
    job = await submit(broker)
    data = bytes(range(256)) * 20
    await broker.jobs.succeed("job001", data)
    stub = JobServiceStub(broker.channel)
    pieces = [p async for p in stub.ReadJobResult(pb.ReadJobResultRequest(name=job.name, offset=500))]
    assert b"".join(p.data for p in pieces) == data[500:]
    assert pieces[0].part.sha256 == hashlib.sha256(data).digest()
    assert [p.offset for p in pieces[:2]] == [500, 1_500]
    assert not pieces[1].HasField("part")


async def test_a_finished_job_cannot_be_cancelled(broker: Serving) -> None:
    job = await submit(broker)
    stub = JobServiceStub(broker.channel)
    cancelled = await stub.CancelJob(pb.CancelJobRequest(name=job.name))
    assert cancelled.job.state == job_pb2.JOB_STATE_CANCELLED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CancelJob(pb.CancelJobRequest(name=job.name))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(status(caught.value)) == "JOB_STATE"


async def test_an_operator_requeues_and_deletes(broker: Serving) -> None:
    job = await submit(broker)
    admin = AdminServiceStub(broker.channel)
    await broker.jobs.change("job001", state=JobState.FAILED, dead_lettered=True)
    requeued = await admin.RequeueJob(admin_service_pb2.RequeueJobRequest(name=job.name))
    assert (requeued.job.state, requeued.job.max_attempts) == (job_pb2.JOB_STATE_QUEUED, 4)
    await admin.DeleteJob(admin_service_pb2.DeleteJobRequest(name=job.name))
    assert broker.jobs.jobs == {}


async def test_an_operation_is_the_job(broker: Serving) -> None:
    job = await submit(broker)
    stub = operations(broker)
    running = await stub.GetOperation(lro.GetOperationRequest(name=job.name))
    metadata = job_pb2.JobMetadata()
    assert not running.done
    assert running.metadata.Unpack(metadata)
    assert metadata.job.name == running.name == job.name
    waiting = asyncio.ensure_future(stub.WaitOperation(lro.WaitOperationRequest(name=job.name)))
    await broker.jobs.succeed("job001", b"data")
    done = await waiting
    result = job_pb2.JobResult()
    assert done.done
    assert done.response.Unpack(result)
    assert result.byte_count == 4
    listed = await stub.ListOperations(lro.ListOperationsRequest(name="tenants/default"))
    assert [operation.name for operation in listed.operations] == [job.name]
    await stub.DeleteOperation(lro.DeleteOperationRequest(name=job.name))
    assert broker.jobs.jobs == {}


async def test_a_wait_returns_the_operation_as_it_is_at_the_timeout(broker: Serving) -> None:
    job = await submit(broker)
    timeout = Duration(nanos=10_000_000)
    wait = lro.WaitOperationRequest(name=job.name, timeout=timeout)
    assert not (await operations(broker).WaitOperation(wait)).done


async def test_an_operation_that_is_done_has_a_response_or_an_error(broker: Serving) -> None:
    failure = JobFailure("WORKER_CRASH_LOOP", "The job killed three workers.", {"attempts": "3"})
    ends: dict[JobState, dict[str, object]] = {
        JobState.FAILED: {"failure": failure},
        JobState.CANCELLED: {},
        JobState.EXPIRED: {},
    }
    reasons = {}
    for state, changes in ends.items():
        job = await submit(broker)
        await broker.jobs.change(job.name.rpartition("/")[2], state=state, **changes)
        stub = operations(broker)
        operation = await stub.GetOperation(lro.GetOperationRequest(name=job.name))
        assert operation.done
        reasons[state] = reason(operation.error)
    assert reasons == {
        JobState.FAILED: "WORKER_CRASH_LOOP",
        JobState.CANCELLED: "CANCELLED",
        JobState.EXPIRED: "RESULT_EXPIRED",
    }


async def test_a_reason_of_a_newer_version_is_an_internal_one(broker: Serving) -> None:
    job = await submit(broker)
    failure = JobFailure("SOMETHING_NEW", "text of the newer version")
    await broker.jobs.change("job001", state=JobState.FAILED, failure=failure)
    found = await JobServiceStub(broker.channel).GetJob(pb.GetJobRequest(name=job.name))
    assert reason(found.job.error) == "INTERNAL"
