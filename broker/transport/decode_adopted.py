"""The job that an exploration becomes when its deadline comes first."""

from __future__ import annotations

from broker.domain.terms import AnswerPolicy, DeadlineAction
from broker.domain.work import JobAsk
from broker.transport.decode_job import decode_submission
from querybroker.v1 import job_pb2, job_service_pb2, query_service_pb2

_FORMATS = {query_service_pb2.RESULT_FORMAT_ARROW: job_pb2.EXPORT_FORMAT_ARROW}


def adoptable(
    message: query_service_pb2.ExploreRequest, policy: AnswerPolicy, defaults: AnswerPolicy
) -> JobAsk | None:
    """An export of the same question under the same policy, where the caller wants one; SQL is always cancelled."""
    if policy.on_deadline is not DeadlineAction.JOB or not message.HasField("query"):
        return None
    export = job_pb2.ExportJob(
        query=message.query, format=_FORMATS.get(message.format, job_pb2.EXPORT_FORMAT_PARQUET)
    )
    request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(export=export))
    if message.HasField("policy"):
        request.policy.CopyFrom(message.policy)
        request.policy.ClearField("on_deadline")
    return decode_submission(request, defaults, "")
