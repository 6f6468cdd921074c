"""JobService."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from google.rpc.status_pb2 import Status

from broker.domain.errors import BrokerError
from broker.domain.job import Job
from broker.domain.terms import AnswerPolicy
from broker.transport.call import Call, Service, streaming, unary
from broker.transport.decode_admin import decode_listing, one_job
from broker.transport.decode_job import decode_submission
from broker.transport.decode_list import Page
from broker.transport.encode_answer import Describe
from broker.transport.encode_job import encode_job, encode_result_part
from broker.transport.encode_watch import EventEncoder
from broker.transport.services import JobApp
from broker.transport.status import Statuses
from querybroker.v1 import job_pb2, job_service_pb2


@dataclass(frozen=True, slots=True)
class JobServicer:
    """Keeps jobs. ``ids`` makes request ids for submissions without one."""

    app: JobApp
    statuses: Statuses
    defaults: AnswerPolicy
    ids: Callable[[], str]
    events: EventEncoder = field(default_factory=EventEncoder)

    def service(self) -> Service:
        """The service with its handlers."""
        return Service(
            job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
            {
                "SubmitJob": unary(job_service_pb2.SubmitJobRequest, self.submit),
                "GetJob": unary(job_service_pb2.GetJobRequest, self.get),
                "ListJobs": unary(job_service_pb2.ListJobsRequest, self.list_jobs),
                "CancelJob": unary(job_service_pb2.CancelJobRequest, self.cancel),
                "WatchJob": streaming(job_service_pb2.WatchJobRequest, self.watch, watch="job"),
                "ReadJobResult": streaming(job_service_pb2.ReadJobResultRequest, self.read),
            },
        )

    async def submit(self, call: Call, request: job_service_pb2.SubmitJobRequest) -> bytes:
        """Stores a job."""
        ask = decode_submission(request, self.defaults, self.ids())
        job = await self.app.submit(call.context, ask)
        return job_service_pb2.SubmitJobResponse(job=self.encode(call, job)).SerializeToString()

    async def get(self, call: Call, request: job_service_pb2.GetJobRequest) -> bytes:
        """Returns a job."""
        job = await self.app.get(call.context, *one_job(request.name))
        return job_service_pb2.GetJobResponse(job=self.encode(call, job)).SerializeToString()

    async def list_jobs(self, call: Call, request: job_service_pb2.ListJobsRequest) -> bytes:
        """A page of jobs, newest first."""
        listing, asked = decode_listing(request)
        jobs = await self.app.list_jobs(call.context, listing, asked.size + 1)
        shown, token = page_of(jobs, asked)
        response = job_service_pb2.ListJobsResponse(
            jobs=[self.encode(call, job) for job in shown], next_page_token=token
        )
        return response.SerializeToString()

    async def cancel(self, call: Call, request: job_service_pb2.CancelJobRequest) -> bytes:
        """Asks a job to stop."""
        job = await self.app.cancel(call.context, *one_job(request.name))
        return job_service_pb2.CancelJobResponse(job=self.encode(call, job)).SerializeToString()

    async def watch(
        self, call: Call, request: job_service_pb2.WatchJobRequest
    ) -> AsyncGenerator[bytes, None]:
        """Streams a job as it changes."""
        named = one_job(request.name, after_revision=request.after_revision)
        async with aclosing(self.app.watch(call.context, *named, request.after_revision)) as events:
            async for event in events:
                yield self.events.encode(event, self._describe(call, event.job))

    async def read(
        self, call: Call, request: job_service_pb2.ReadJobResultRequest
    ) -> AsyncGenerator[bytes, None]:
        """Streams the bytes of one file of a result."""
        tenant, job_id = one_job(request.name, part_index=request.part_index, offset=request.offset)
        pieces = self.app.read_result(call.context, tenant, job_id, request.part_index, request.offset)
        async with aclosing(pieces):
            async for piece in pieces:
                response = job_service_pb2.ReadJobResultResponse(
                    part=encode_result_part(piece.part) if piece.part is not None else None,
                    offset=piece.offset,
                    data=piece.data,
                )
                yield response.SerializeToString()

    def encode(self, call: Call, job: Job) -> job_pb2.Job:
        """The job in the contract's form."""
        return encode_job(job, self._describe(call, job))

    def _describe(self, call: Call, job: Job) -> Describe:
        def describe(error: BrokerError) -> Status:
            return self.statuses.status(error, job.request_id or call.request_id)

        return describe


def page_of(jobs: Sequence[Job], asked: Page) -> tuple[Sequence[Job], str]:
    """The jobs of a page out of one more than it holds, and the token of the next page."""
    shown = jobs[: asked.size]
    if len(jobs) <= asked.size:
        return shown, ""
    return shown, asked.token([shown[-1].create_time.isoformat(), shown[-1].id])
