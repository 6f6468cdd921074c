"""One trace from the caller's span to the worker process, and a job's spans linked to its submission."""

from __future__ import annotations

import asyncio
from pathlib import Path

from broker.demo.embedded import EmbeddedPostgres
from querybroker.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.collector import Collector, collecting, plain
from tests.support.pg import prepare
from tests.support.server import running_broker
from tests.system.conftest import MODEL, SCHEMA, System, dashboard, query

CALLER = "b7ad6b7169203331"
TRACES = {name: f"{number:032x}" for number, name in enumerate(("dashboard", "explore", "job"), start=0xABC)}


def metadata(name: str) -> tuple[tuple[str, str], ...]:
    """The caller's span, as instrumented clients send it."""
    return (("traceparent", f"00-{TRACES[name]}-{CALLER}-01"),)


async def call_everything(system: System) -> None:
    """A dashboard that needs a worker process, an exploration, and a job to its end."""
    async with system.channel() as channel:
        queries = QueryServiceStub(channel)
        sketched = query(measures=["kinds"], dimensions=["kind"])
        await queries.Dashboard(dashboard(sketched), timeout=30, metadata=metadata("dashboard"))
        request = query_service_pb2.ExploreRequest(query=query(dimensions=["id", "note"]))
        async for _ in queries.Explore(request, timeout=30, metadata=metadata("explore")):
            pass
        jobs = job_service_pb2_grpc.JobServiceStub(channel)
        spec = job_pb2.JobSpec(export=job_pb2.ExportJob(query=query(dimensions=["id"], limit=10)))
        submit = job_service_pb2.SubmitJobRequest(spec=spec)
        job = (await jobs.SubmitJob(submit, timeout=30, metadata=metadata("job"))).job
        async for event in jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), timeout=60):
            job = event.job
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job


async def test_a_trace_runs_from_the_caller_to_the_worker_process_and_jobs_are_linked(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    dsn = own_postgres.dsn("postgres")
    await prepare(dsn, SCHEMA, ("jobs",))
    model = tmp_path / "broker.yaml"
    model.write_text(MODEL)
    async with collecting() as collector:
        overrides = {"telemetry.otlp_endpoint": f"http://127.0.0.1:{collector.port}"}

        def run() -> None:
            with (
                running_broker(dsn, tmp_path, config=model, overrides=overrides) as broker,
                running_broker(dsn, tmp_path, config=model, overrides=overrides, role="worker"),
            ):
                asyncio.run(call_everything(System(broker, own_postgres, dsn)))

        await asyncio.to_thread(run)  # both processes have ended, and with that flushed their spans
        check_call(collector, "dashboard", "querybroker.v1.QueryService/Dashboard")
        check_call(collector, "explore", "querybroker.v1.QueryService/Explore")
        check_job(collector)


def check_call(collector: Collector, name: str, method: str) -> None:
    """The caller's span has the server's below it, and below that the stages, the statement and the worker process."""
    spans = collector.of_trace(TRACES[name])
    server = spans[method]
    assert server.parent_span_id.hex() == CALLER
    ids = {span.span_id for span in spans.values()}
    stages = ("resolve", "classify", "queue", "aggregate", "worker")
    assert {f"querybroker.{stage}" for stage in stages} <= set(spans)
    assert spans["querybroker.worker"].parent_span_id == spans["querybroker.aggregate"].span_id
    statements = [s for s in spans.values() if plain(s.attributes).get("db.system.name") == "postgresql"]
    assert statements
    worker = spans["querybroker.worker"]
    assert plain(worker.attributes)["process.pid"] != 0
    for span in spans.values():
        assert span is server or span.parent_span_id in ids
        assert span.start_time_unix_nano >= server.start_time_unix_nano


def check_job(collector: Collector) -> None:
    """The attempt, in another process, is in the trace of the submission and linked to it."""
    spans = collector.of_trace(TRACES["job"])
    submission = spans["querybroker.v1.JobService/SubmitJob"]
    attempt = spans["querybroker.job.attempt"]
    assert attempt.parent_span_id == submission.span_id
    assert [link.span_id for link in attempt.links] == [submission.span_id]
