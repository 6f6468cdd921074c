"""Export jobs from submission to result over gRPC: once per request, watched, resumed, cancelled, and survived."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2_grpc
from google.longrunning import operations_proto_pb2 as operations

from querybroker import QueryBrokerError
from querybroker.v1 import answer_pb2, catalog_service_pb2, job_pb2, query_pb2, query_service_pb2
from querybroker.v1 import job_service_pb2 as pb
from querybroker.v1.catalog_service_pb2_grpc import CatalogServiceStub
from querybroker.v1.job_service_pb2_grpc import JobServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import Connection
from tests.support.server import RunningBroker, running_broker
from tests.system.conftest import SLOW, System, query

Stub = Any
"""Service stubs, whose types know the synchronous and the asynchronous kind by different names."""
ROWS = query(dimensions=["id", "note"])
LOCK = 42


@contextmanager
def worker(system: System, home: Path) -> Iterator[RunningBroker]:
    """A worker for the system's jobs, which loses its lease a second after it was last heard of."""
    overrides = {"jobs.lease": 1, "jobs.result_dir": str(system.config.parent / "results")}
    with running_broker(
        system.dsn, home, config=system.config, overrides=overrides, role="worker"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def working(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A worker for the system that the tests share."""
    with worker(system, tmp_path_factory.mktemp("worker")):
        yield


@pytest.fixture
async def jobs(system: System) -> AsyncIterator[Stub]:
    """The service."""
    async with system.channel() as channel:
        yield JobServiceStub(channel)


@pytest.fixture
async def control(system: System) -> AsyncIterator[Connection]:
    """A connection that looks at what PostgreSQL does, and may hold what it waits for."""
    connection = await asyncpg.connect(system.dsn)
    yield connection
    await connection.close()


def export(asked: query_pb2.Query, **fields: object) -> pb.SubmitJobRequest:
    """A request for an export as CSV."""
    spec = job_pb2.JobSpec(export=job_pb2.ExportJob(query=asked, format=job_pb2.EXPORT_FORMAT_CSV))
    return pb.SubmitJobRequest(spec=spec, **fields)  # type: ignore[arg-type] # fields of the message


async def submit(jobs: Stub, asked: query_pb2.Query, **fields: object) -> job_pb2.Job:
    response: pb.SubmitJobResponse = await jobs.SubmitJob(export(asked, **fields), timeout=20)
    return response.job


async def reads(connection: Connection, view: str, *, wanted: bool) -> None:
    """Waits until PostgreSQL reads the view, or until it does not."""
    text = "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"

    async def holds() -> bool:
        return bool(await connection.fetchval(text, f"COPY%public.{view} %") == wanted)

    await eventually(holds, f"{view} is read" if wanted else f"{view} is not read any more")


async def watch(jobs: Stub, name: str, after: int = 0) -> Sequence[job_pb2.Job]:
    request = pb.WatchJobRequest(name=name, after_revision=after)
    return [event.job async for event in jobs.WatchJob(request, timeout=60)]


async def read(jobs: Stub, name: str, offset: int = 0) -> bytes:
    request = pb.ReadJobResultRequest(name=name, offset=offset)
    data = b""
    async for piece in jobs.ReadJobResult(request, timeout=60):
        assert piece.offset == offset + len(data)
        data += piece.data
    return data


async def test_a_request_id_stands_for_one_job_and_one_request(jobs: Stub) -> None:
    request_id = str(uuid.uuid4())
    first = await submit(jobs, ROWS, request_id=request_id)
    assert (await submit(jobs, ROWS, request_id=request_id)).name == first.name
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await submit(jobs, query(dimensions=["id"]), request_id=request_id)
    error = QueryBrokerError.from_rpc_error(caught.value)
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    assert (await submit(jobs, ROWS)).name != first.name


async def test_validation_alone_keeps_nothing(jobs: Stub) -> None:
    request_id = str(uuid.uuid4())
    checked = await submit(jobs, ROWS, validate_only=True, request_id=request_id)
    assert (checked.name, checked.state) == ("", job_pb2.JOB_STATE_QUEUED)
    listed = (await jobs.ListJobs(pb.ListJobsRequest(page_size=1000))).jobs
    assert request_id not in {job.request_id for job in listed}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await submit(jobs, query(measures=["total", "nothing"], dimensions=["nowhere"]), validate_only=True)
    violations = QueryBrokerError.from_rpc_error(caught.value).violations
    path = "spec.export.query"
    assert [v.field for v in violations] == [f"{path}.measures[1]", f"{path}.dimensions[0]"]


async def test_a_job_is_watched_to_its_end_and_its_result_read_from_any_offset(
    working: None, jobs: Stub
) -> None:
    job = await submit(jobs, ROWS)
    seen = await watch(jobs, job.name)
    revisions = [event.revision for event in seen]
    assert revisions == sorted(set(revisions)), "every state is told once, in order"
    last = seen[-1]
    assert (last.state, last.progress.fraction, last.progress.row_count) == (
        job_pb2.JOB_STATE_SUCCEEDED, 1.0, 200_000,
    )  # fmt: skip
    assert [event.revision for event in await watch(jobs, job.name, last.revision - 1)] == [last.revision]
    assert [event.revision for event in await watch(jobs, job.name, last.revision)] == [last.revision]
    (part,) = last.result.parts
    data = await read(jobs, job.name)
    assert (len(data), hashlib.sha256(data).digest()) == (part.byte_count, part.sha256)
    assert data.count(b"\n") == 200_001
    for offset in (1, len(data) // 2, len(data) - 1, len(data)):
        assert await read(jobs, job.name, offset) == data[offset:]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(jobs, job.name, len(data) + 1)
    assert [v.field for v in QueryBrokerError.from_rpc_error(caught.value).violations] == ["offset"]


async def test_a_job_is_an_operation_too(system: System, working: None, jobs: Stub) -> None:
    async with system.channel() as channel:
        stub: Stub = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call] # generated
        job = await submit(jobs, query(dimensions=["id"], limit=10))
        waited = await stub.WaitOperation(operations.WaitOperationRequest(name=job.name), timeout=60)
        assert (waited.name, waited.done) == (job.name, True)
        assert waited == await stub.GetOperation(operations.GetOperationRequest(name=job.name))
        result, told = job_pb2.JobResult(), pb.GetJobRequest(name=job.name)
        assert waited.response.Unpack(result)
        assert result == (await jobs.GetJob(told)).job.result
        await stub.DeleteOperation(operations.DeleteOperationRequest(name=job.name))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await jobs.GetJob(told)
        assert QueryBrokerError.from_rpc_error(caught.value).reason == "JOB_NOT_FOUND"


async def test_a_cancel_stops_the_statement_at_the_server(
    working: None, jobs: Stub, control: Connection
) -> None:
    job = await submit(jobs, query("slow", dimensions=SLOW.dimensions))
    await reads(control, "slow", wanted=True)
    await jobs.CancelJob(pb.CancelJobRequest(name=job.name))
    last = (await watch(jobs, job.name))[-1]
    assert (last.state, last.HasField("result")) == (job_pb2.JOB_STATE_CANCELLED, False)
    await reads(control, "slow", wanted=False)


async def test_a_job_outlives_its_worker(own_system: System, tmp_path: Path) -> None:
    control = await asyncpg.connect(own_system.dsn)
    await control.execute(f"SELECT pg_advisory_lock({LOCK})")
    async with own_system.channel() as channel:
        jobs: Stub = JobServiceStub(channel)
        with worker(own_system, tmp_path / "first") as first:
            job = await submit(jobs, query("locked", dimensions=["note"]))
            await reads(control, "locked", wanted=True)
            first.process.kill()
            await reads(control, "locked", wanted=False)
        await control.execute(f"SELECT pg_advisory_unlock({LOCK})")
        with worker(own_system, tmp_path / "second"):
            last = (await watch(jobs, job.name))[-1]
    assert (last.state, last.attempt, last.result.row_count) == (job_pb2.JOB_STATE_SUCCEEDED, 2, 1)
    await control.close()


async def test_a_job_makes_a_dataset_that_is_asked_listed_explained_and_deleted(
    system: System, working: None, jobs: Stub
) -> None:
    kept = query(measures=["events", "total", "kinds"], dimensions=["kind"])
    spec = job_pb2.JobSpec(materialize=job_pb2.MaterializeJob(query=kept, dataset="by_kind"))
    job = (await jobs.SubmitJob(pb.SubmitJobRequest(spec=spec), timeout=20)).job
    last = (await watch(jobs, job.name))[-1]
    assert (last.state, last.result.dataset) == (job_pb2.JOB_STATE_SUCCEEDED, "by_kind")
    async with system.channel() as channel:
        asked, catalog = QueryServiceStub(channel), CatalogServiceStub(channel)
        panels = [
            query_service_pb2.Panel(panel_id="all", query=query("by_kind", measures=["events", "total"])),
            query_service_pb2.Panel(
                panel_id="each", query=query("by_kind", measures=["kinds"], dimensions=["kind"])
            ),
            query_service_pb2.Panel(panel_id="not", query=query("by_kind", measures=["kinds"])),
            query_service_pb2.Panel(panel_id="live", query=query(measures=["events"])),
        ]
        found = await asked.Dashboard(query_service_pb2.DashboardRequest(panels=panels), timeout=30)
        whole, each, refused, live = found.panels
        status = whole.status
        assert (status.kind, status.as_of) == (answer_pb2.ANSWER_KIND_MATERIALIZED, last.result.status.as_of)
        assert [(p.source, p.source_name) for p in status.parts] == [
            (answer_pb2.PART_SOURCE_MATERIALIZED, job.name)
        ]
        assert whole.table.columns.columns[0].int64_values.values == [200_000]
        assert each.table.row_count == 7
        assert refused.error.message.startswith("panels[2].query.measures: 'kinds' cannot be computed again")
        assert live.status.kind == answer_pb2.ANSWER_KIND_LIVE

        explored = query_service_pb2.ExploreRequest(
            query=query("by_kind", measures=["total"], dimensions=["kind"])
        )
        events = [event async for event in asked.Explore(explored, timeout=30)]
        assert sum(event.batch.row_count for event in events) == 7
        assert events[-1].status.kind == answer_pb2.ANSWER_KIND_MATERIALIZED
        told = await asked.Explain(query_service_pb2.ExplainRequest(query=explored.query), timeout=30)
        assert told.expected_kind == answer_pb2.ANSWER_KIND_MATERIALIZED

        listed = await catalog.ListDatasets(catalog_service_pb2.ListDatasetsRequest(), timeout=30)
        assert "datasets/by_kind" in [dataset.name for dataset in listed.datasets]
        name = catalog_service_pb2.GetDatasetRequest(name="datasets/by_kind")
        got = (await catalog.GetDataset(name, timeout=30)).dataset
        assert {m.name: m.mergeable for m in got.measures} == {"events": True, "total": True, "kinds": False}

        stub: Stub = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call] # generated
        await stub.DeleteOperation(operations.DeleteOperationRequest(name=job.name))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await catalog.GetDataset(name, timeout=30)
        assert QueryBrokerError.from_rpc_error(caught.value).reason == "DATASET_NOT_FOUND"
