"""Requests of the two clients, and what their responses mean; no input or output here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from querybroker.channel import new_request_id
from querybroker.errors import QueryBrokerError
from querybroker.result import Dashboard, Result
from querybroker.v1 import (
    catalog_service_pb2,
    job_pb2,
    job_service_pb2,
    policy_pb2,
    query_pb2,
    query_service_pb2,
)
from querybroker.values import one_of, timestamp

Question = query_pb2.Query | query_pb2.SqlQuery
Panel = query_pb2.Query | query_service_pb2.Panel
Work = Question | job_pb2.JobSpec
Policy = policy_pb2.AnswerPolicy | None
Format = Literal["columns", "arrow"]
FileFormat = Literal["parquet", "csv", "arrow"]
Kind = Literal["dashboard", "explore", "job"]

ONLY = "only"
_FORMATS = {
    "columns": query_service_pb2.RESULT_FORMAT_COLUMNS,
    "arrow": query_service_pb2.RESULT_FORMAT_ARROW,
}
_FILES = {
    "parquet": job_pb2.EXPORT_FORMAT_PARQUET,
    "csv": job_pb2.EXPORT_FORMAT_CSV,
    "arrow": job_pb2.EXPORT_FORMAT_ARROW,
}
_KINDS = {
    "dashboard": query_service_pb2.REQUEST_KIND_DASHBOARD,
    "explore": query_service_pb2.REQUEST_KIND_EXPLORE,
    "job": query_service_pb2.REQUEST_KIND_JOB,
}
_STATES = {
    name.removeprefix("JOB_STATE_").lower(): number
    for name, number in job_pb2.JobState.items()
    if number != job_pb2.JOB_STATE_UNSPECIFIED
}
FINAL = frozenset(
    {
        job_pb2.JOB_STATE_SUCCEEDED,
        job_pb2.JOB_STATE_FAILED,
        job_pb2.JOB_STATE_CANCELLED,
        job_pb2.JOB_STATE_EXPIRED,
    }
)


def dashboard_request(
    panels: Mapping[str, Panel], policy: Policy, encoding: Format, dashboard_id: str
) -> query_service_pb2.DashboardRequest:
    """The panels by id; one given as a message may have a policy of its own."""
    request = query_service_pb2.DashboardRequest(
        request_id=new_request_id(),
        dashboard_id=dashboard_id,
        policy=policy,
        format=one_of("format", encoding, _FORMATS),
    )
    for name, panel in panels.items():
        added = request.panels.add()
        if isinstance(panel, query_service_pb2.Panel):
            added.CopyFrom(panel)
        else:
            added.query.CopyFrom(panel)
        added.panel_id = name
    return request


def only_result(response: query_service_pb2.DashboardResponse) -> Result:
    """The answer of a dashboard of one panel.

    Raises:
        QueryBrokerError: The panel failed.
    """
    return Dashboard(response)[ONLY]


def explore_request(
    question: Question, policy: Policy, encoding: Format, max_rows: int, max_bytes: int
) -> query_service_pb2.ExploreRequest:
    """An exploration."""
    request = query_service_pb2.ExploreRequest(
        request_id=new_request_id(),
        policy=policy,
        format=one_of("format", encoding, _FORMATS),
        max_row_count=max_rows,
        max_byte_count=max_bytes,
    )
    _ask(request, question)
    return request


def explain_request(question: Question, policy: Policy, kind: Kind) -> query_service_pb2.ExplainRequest:
    """A question about a question."""
    request = query_service_pb2.ExplainRequest(policy=policy, request_kind=one_of("kind", kind, _KINDS))
    _ask(request, question)
    return request


def submit_request(
    work: Work,
    file_format: FileFormat,
    policy: Policy,
    priority: int | None,
    labels: Mapping[str, str] | None,
    start_by: datetime | None,
    request_id: str,
    *,
    validate_only: bool,
) -> job_service_pb2.SubmitJobRequest:
    """A job. It always has a request id, so that it may be sent again without being stored twice."""
    request = job_service_pb2.SubmitJobRequest(
        request_id=request_id or new_request_id(),
        policy=policy,
        priority=priority,
        labels=labels,
        start_by_time=timestamp(start_by) if start_by is not None else None,
        validate_only=validate_only,
    )
    if isinstance(work, job_pb2.JobSpec):
        request.spec.CopyFrom(work)
        return request
    request.spec.export.format = one_of("format", file_format, _FILES)
    _ask(request.spec.export, work)
    return request


def list_request(
    states: Iterable[str], kind: str, *, all_owners: bool, dead_lettered: bool
) -> job_service_pb2.ListJobsRequest:
    """The first page of jobs; states by name, such as ``running``."""
    return job_service_pb2.ListJobsRequest(
        states=[one_of("states", state.lower(), _STATES) for state in states],
        kind=kind,
        all_owners=all_owners,
        dead_lettered=dead_lettered,
    )


def dataset_request(name: str) -> catalog_service_pb2.GetDatasetRequest:
    """A dataset, by its name or its resource name."""
    return catalog_service_pb2.GetDatasetRequest(name=f"datasets/{name.removeprefix('datasets/')}")


def failed(job: job_pb2.Job) -> QueryBrokerError | None:
    """Why a job has no result: its error, or its state; None when it has one or may still get one."""
    if job.state not in FINAL or job.state == job_pb2.JOB_STATE_SUCCEEDED:
        return None
    if job.HasField("error"):
        return QueryBrokerError.from_status(job.error)
    state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
    return QueryBrokerError("FAILED_PRECONDITION", f"{job.name} is {state}", reason=state)


def _ask(
    message: query_service_pb2.ExploreRequest | query_service_pb2.ExplainRequest | job_pb2.ExportJob,
    question: Question,
) -> None:
    if isinstance(question, query_pb2.Query):
        message.query.CopyFrom(question)
    else:
        message.sql.CopyFrom(question)
