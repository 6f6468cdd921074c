"""Requests of the wrong shape around the query: panels, policies, jobs, lists, administration."""

from __future__ import annotations

from google.longrunning import operations_proto_pb2 as lro
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from querybroker.v1 import admin_service_pb2 as admin
from querybroker.v1 import answer_pb2, job_pb2, policy_pb2
from querybroker.v1 import catalog_service_pb2 as catalog
from querybroker.v1 import job_service_pb2 as jobs
from querybroker.v1 import query_service_pb2 as qs
from querybroker.v1.query_pb2 import SqlQuery
from tests.rpc.invalid import board, case, explore, query

NAME = "tenants/default/jobs/job001"


def policy(**fields: object) -> policy_pb2.AnswerPolicy:
    return policy_pb2.AnswerPolicy(**fields)  # type: ignore[arg-type] # a test names fields of the message


def dashboard(**fields: object) -> qs.DashboardRequest:
    named = {"panels": [qs.Panel(query=query())], **fields}
    return qs.DashboardRequest(**named)  # type: ignore[arg-type] # a test names fields of the message


def panels(*ids: str) -> list[qs.Panel]:
    return [qs.Panel(panel_id=panel, query=query()) for panel in ids]


def submit(**fields: object) -> jobs.SubmitJobRequest:
    named = {"spec": job_pb2.JobSpec(export=job_pb2.ExportJob(query=query())), **fields}
    return jobs.SubmitJobRequest(**named)  # type: ignore[arg-type] # a test names fields of the message


def work(**fields: object) -> jobs.SubmitJobRequest:
    return submit(spec=job_pb2.JobSpec(**fields))  # type: ignore[arg-type] # a test names fields of the message


def large() -> Struct:
    struct = Struct()
    struct.update({"text": "x" * 70_000})
    return struct


BACKWARDS = answer_pb2.TimeInterval(start_time=Timestamp(seconds=9), end_time=Timestamp(seconds=8))

REQUESTS = (
    case("dashboard without panels", qs.DashboardRequest(), ("panels", "REQUIRED")),
    case("too many panels", board(*[query()] * 65), ("panels", "TOO_MANY")),
    case("panel without a query", dashboard(panels=[qs.Panel()]), ("panels[0].query", "REQUIRED")),
    case("panel id twice", dashboard(panels=panels("a", "b", "a")), ("panels[2].panel_id", "DUPLICATE")),
    case("panel id of a position", dashboard(panels=panels("1", "")), ("panels[1].panel_id", "DUPLICATE")),
    case("long panel id", dashboard(panels=panels("p" * 129)), ("panels[0].panel_id", "TOO_LONG")),
    case("request id of words", dashboard(request_id="my request"), ("request_id", "INVALID_UUID")),
    case("request id in braces", explore(request_id="{" + "1" * 34 + "}"), ("request_id", "INVALID_UUID")),
    case("long dashboard id", dashboard(dashboard_id="d" * 257), ("dashboard_id", "TOO_LONG")),
    case("unknown format", dashboard(format=9), ("format", "UNKNOWN_ENUM")),
    case(
        "policy of unknown modes",
        dashboard(
            policy=policy(
                fallback_mode=9, rollup_mode=9, cache_mode=9, edge_mode=9, consistency=9, partial_mode=9
            )
        ),
        *(
            (f"policy.{name}_mode", "UNKNOWN_ENUM")
            for name in ("fallback", "rollup", "cache", "edge", "partial")
        ),
        ("policy.consistency", "UNKNOWN_ENUM"),
    ),
    case(
        "unknown kinds",
        dashboard(policy=policy(accepted_kinds=[1, 0, 99])),
        ("policy.accepted_kinds[1]", "REQUIRED"),
        ("policy.accepted_kinds[2]", "UNKNOWN_ENUM"),
    ),
    case(
        "negative staleness",
        dashboard(policy=policy(max_staleness=Duration(seconds=-1))),
        ("policy.max_staleness", "OUT_OF_RANGE"),
    ),
    case(
        "duration of two signs",
        dashboard(policy=policy(max_staleness=Duration(seconds=1, nanos=-1))),
        ("policy.max_staleness", "INVALID_DURATION"),
    ),
    *(
        case(
            f"relative error {value}",
            explore(policy=policy(max_relative_error=value)),
            ("policy.max_relative_error", "OUT_OF_RANGE"),
        )
        for value in (-0.1, 1.0, float("nan"), float("inf"))
    ),
    case(
        "dashboard as a job", dashboard(policy=policy(on_deadline=2)), ("policy.on_deadline", "NOT_ALLOWED")
    ),
    case(
        "panel with its own consistency",
        dashboard(panels=[qs.Panel(query=query(), policy=policy(consistency=1, on_deadline=2))]),
        ("panels[0].policy.consistency", "NOT_ALLOWED"),
        ("panels[0].policy.on_deadline", "NOT_ALLOWED"),
    ),
    case(
        "negative limits",
        explore(max_row_count=-1, max_byte_count=-1, format=5),
        ("max_row_count", "OUT_OF_RANGE"),
        ("max_byte_count", "OUT_OF_RANGE"),
        ("format", "UNKNOWN_ENUM"),
    ),
    case("explanation of nothing", qs.ExplainRequest(), ("source", "REQUIRED")),
    case(
        "explanation of SQL on a dashboard",
        qs.ExplainRequest(sql=SqlQuery(text="SELECT 1"), request_kind=qs.REQUEST_KIND_DASHBOARD),
        ("request_kind", "NOT_ALLOWED"),
    ),
    case("job without a spec", jobs.SubmitJobRequest(), ("spec", "REQUIRED")),
    case("job without work", work(), ("spec.work", "REQUIRED")),
    case("export of nothing", work(export=job_pb2.ExportJob()), ("spec.export", "REQUIRED")),
    case(
        "export in a bad format",
        work(export=job_pb2.ExportJob(query=query(limit=-1), format=77)),  # type: ignore[arg-type] # any number
        ("spec.export.query.limit", "OUT_OF_RANGE"),
        ("spec.export.format", "UNKNOWN_ENUM"),
    ),
    case("report of nothing", work(report=job_pb2.ReportJob()), ("spec.report.sections", "REQUIRED")),
    case(
        "report of bad sections",
        work(
            report=job_pb2.ReportJob(
                sections=[
                    job_pb2.ReportSection(section_id="../up", query=query()),
                    job_pb2.ReportSection(section_id="a"),
                    job_pb2.ReportSection(section_id="A", query=query(dataset="")),
                ]
            )
        ),
        ("spec.report.sections[0].section_id", "INVALID_NAME"),
        ("spec.report.sections[1].query", "REQUIRED"),
        ("spec.report.sections[2].section_id", "DUPLICATE"),
        ("spec.report.sections[2].query.dataset", "REQUIRED"),
    ),
    case(
        "build of a bad name",
        work(rollup_build=job_pb2.RollupBuildJob(rollup="daily", interval=BACKWARDS)),
        ("spec.rollup_build.rollup", "INVALID_NAME"),
        ("spec.rollup_build.interval.end_time", "EMPTY_RANGE"),
    ),
    case(
        "refresh of a bad name",
        work(rollup_refresh=job_pb2.RollupRefreshJob(rollup="datasets/a/b")),
        ("spec.rollup_refresh.rollup", "INVALID_NAME"),
    ),
    case(
        "materialisation of nothing",
        work(materialize=job_pb2.MaterializeJob(dataset="Bad Name", retention=Duration(seconds=-9))),
        ("spec.materialize.query", "REQUIRED"),
        ("spec.materialize.dataset", "INVALID_NAME"),
        ("spec.materialize.retention", "OUT_OF_RANGE"),
    ),
    case("custom job without a kind", work(custom=job_pb2.CustomJob()), ("spec.custom.kind", "REQUIRED")),
    case(
        "custom job with a novel",
        work(custom=job_pb2.CustomJob(kind="k", parameters=large())),
        ("spec.custom.parameters", "TOO_LONG"),
    ),
    case("priority too low", submit(priority=10), ("priority", "OUT_OF_RANGE")),
    case("priority too high", submit(priority=-1), ("priority", "OUT_OF_RANGE")),
    case("many labels", submit(labels={str(i): "" for i in range(33)}), ("labels", "TOO_MANY")),
    case(
        "bad labels",
        submit(labels={"": "x", "k": "v" * 257}),
        ('labels[""]', "REQUIRED"),
        ('labels["k"]', "TOO_LONG"),
    ),
    case(
        "start too late for any calendar",
        submit(start_by_time=Timestamp(seconds=2**40)),
        ("start_by_time", "OUT_OF_RANGE"),
    ),
    case("job with no request id of its own", submit(request_id="42"), ("request_id", "INVALID_UUID")),
    case("job of a bad name", jobs.GetJobRequest(name="job001"), ("name", "INVALID_NAME")),
    case("cancel of a bad name", jobs.CancelJobRequest(name="tenants//jobs/"), ("name", "INVALID_NAME")),
    case(
        "watch from before",
        jobs.WatchJobRequest(name="x", after_revision=-1),
        ("name", "INVALID_NAME"),
        ("after_revision", "OUT_OF_RANGE"),
    ),
    case(
        "result from before",
        jobs.ReadJobResultRequest(name=NAME, part_index=-1, offset=-2),
        ("part_index", "OUT_OF_RANGE"),
        ("offset", "OUT_OF_RANGE"),
    ),
    case(
        "list of bad states",
        jobs.ListJobsRequest(page_size=-1, states=[9, 0], page_token="AAAA", kind="k" * 129),  # type: ignore[list-item] # any number
        ("page_size", "OUT_OF_RANGE"),
        ("states[0]", "UNKNOWN_ENUM"),
        ("states[1]", "REQUIRED"),
        ("page_token", "INVALID_TOKEN"),
        ("kind", "TOO_LONG"),
    ),
    case("dataset of a bad name", catalog.GetDatasetRequest(name="flights"), ("name", "INVALID_NAME")),
    case(
        "page of datasets",
        catalog.ListDatasetsRequest(page_size=-3, page_token="%"),
        ("page_size", "OUT_OF_RANGE"),
        ("page_token", "INVALID_TOKEN"),
    ),
    case(
        "requeue of less than nothing",
        admin.RequeueJobRequest(name=NAME, extra_attempts=-1),
        ("extra_attempts", "OUT_OF_RANGE"),
    ),
    case("deletion of a bad name", admin.DeleteJobRequest(), ("name", "INVALID_NAME")),
    case(
        "state too often", admin.WatchStateRequest(interval=Duration(nanos=1)), ("interval", "OUT_OF_RANGE")
    ),
    case("negative grace", admin.DrainRequest(grace=Duration(seconds=-1)), ("grace", "OUT_OF_RANGE")),
    case("endless grace", admin.DrainRequest(grace=Duration(seconds=86_401)), ("grace", "OUT_OF_RANGE")),
    case("operation of a bad name", lro.GetOperationRequest(name="operations/1"), ("name", "INVALID_NAME")),
    case(
        "operations of others, filtered",
        lro.ListOperationsRequest(name="tenants/other", filter="done = true", page_size=-1),
        ("name", "NOT_ALLOWED"),
        ("filter", "NOT_ALLOWED"),
        ("page_size", "OUT_OF_RANGE"),
    ),
    case(
        "wait for less than nothing",
        lro.WaitOperationRequest(name=NAME, timeout=Duration(seconds=-1)),
        ("timeout", "OUT_OF_RANGE"),
    ),
)
