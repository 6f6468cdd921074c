"""Jobs: domain to protobuf, as jobs and as google.longrunning operations."""

from __future__ import annotations

from google.longrunning.operations_proto_pb2 import Operation
from google.protobuf.any_pb2 import Any
from google.rpc.status_pb2 import Status

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobFailure, JobProgress, JobResult, JobState, ResultPart
from broker.transport.encode_answer import Describe
from broker.transport.encode_status import encode_columns, encode_interval, encode_status, timestamp
from broker.transport.enums import EXPORT_FORMAT, JOB_STAGE, JOB_STATE
from querybroker.v1 import job_pb2, job_service_pb2


def encode_job(job: Job, describe: Describe) -> job_pb2.Job:
    """The job as its submitter sees it; ``describe`` turns a failure into a status."""
    request = job_service_pb2.SubmitJobRequest.FromString(job.spec)
    return job_pb2.Job(
        name=job.name,
        state=JOB_STATE.proto(job.state),
        stage=JOB_STAGE.proto(job.stage),
        spec=request.spec,
        progress=encode_progress(job.progress),
        error=encode_failure(job.failure, describe) if job.failure is not None else None,
        result=encode_result(job.result, job.request_id) if job.result is not None else None,
        revision=job.revision,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        owner=job.owner,
        request_id=job.request_id,
        priority=job.priority,
        labels=job.labels,
        cancel_requested=job.cancel_requested,
        dead_lettered=job.dead_lettered,
        create_time=timestamp(job.create_time),
        start_time=timestamp(job.start_time),
        end_time=timestamp(job.end_time),
        update_time=timestamp(job.update_time),
        next_attempt_time=timestamp(job.next_attempt_time),
        expire_time=timestamp(job.result.expire_time) if job.result is not None else None,
        start_by_time=timestamp(job.start_by_time),
        estimated_time=timestamp(job.estimated_time or job.likely_end),
    )


def encode_operation(job: Job, describe: Describe) -> Operation:
    """The same job as an operation: JobMetadata always, JobResult or an error once it is done."""
    message = encode_job(job, describe)
    operation = Operation(name=job.name, done=job.state.final)
    if job.state is JobState.SUCCEEDED and job.result is not None:
        operation.response.Pack(message.result)
    elif job.state.final:
        operation.error.CopyFrom(_operation_error(job, message, describe))
    message.ClearField("result")
    metadata = Any()
    metadata.Pack(job_pb2.JobMetadata(job=message))
    operation.metadata.CopyFrom(metadata)
    return operation


def _operation_error(job: Job, message: job_pb2.Job, describe: Describe) -> Status:
    """An operation that is done has a response or an error, also where the job has no failure to show."""
    if job.state is JobState.EXPIRED:
        text = "The job succeeded, and its result has been deleted since. Submit it again."
        return describe(BrokerError(ErrorReason.RESULT_EXPIRED, text, resource=job.name))
    if message.HasField("error"):
        return message.error
    if job.state is JobState.CANCELLED:
        return describe(
            BrokerError(ErrorReason.CANCELLED, "The job was cancelled by request.", resource=job.name)
        )
    return describe(BrokerError(ErrorReason.INTERNAL, "The job failed without a reason."))


def encode_failure(failure: JobFailure, describe: Describe) -> Status:
    """Why an attempt failed; a reason that this version does not know is a bug of the newer one that wrote it."""
    known = failure.reason in ErrorReason.__members__
    reason = ErrorReason(failure.reason) if known else ErrorReason.INTERNAL
    return describe(BrokerError(reason, failure.message, metadata=failure.metadata))


def encode_result(result: JobResult, request_id: str) -> job_pb2.JobResult:
    """The manifest of a finished job."""
    return job_pb2.JobResult(
        parts=[encode_result_part(part) for part in result.parts],
        schema=encode_columns(result.columns),
        row_count=result.row_count,
        byte_count=result.byte_count,
        format=EXPORT_FORMAT.proto(result.format),
        status=encode_status(result.status, request_id) if result.status is not None else None,
        inline_data=result.inline,
        expire_time=timestamp(result.expire_time),
        expired=result.expired,
        dataset=result.dataset,
    )


def encode_result_part(part: ResultPart) -> job_pb2.ResultPart:
    """One file of a result; where it is stored stays inside."""
    return job_pb2.ResultPart(
        part_index=part.index,
        file_name=part.file_name,
        content_type=part.content_type,
        row_count=part.row_count,
        byte_count=part.byte_count,
        sha256=part.sha256,
    )


def encode_progress(progress: JobProgress) -> job_pb2.JobProgress:
    """How far an attempt is."""
    return job_pb2.JobProgress(
        phase=progress.phase,
        fraction=progress.fraction or 0.0,
        fraction_known=progress.fraction is not None,
        row_count=progress.row_count,
        total_row_count=progress.total_row_count,
        byte_count=progress.byte_count,
        row_rate=progress.row_rate,
        message=progress.message,
        interval=encode_interval(progress.interval),
    )
