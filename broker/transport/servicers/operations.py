"""google.longrunning.Operations over jobs: an operation's name is the job's."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from google.longrunning import operations_proto_pb2 as pb
from google.rpc.status_pb2 import Status

from broker.domain.errors import BrokerError, Violation, invalid
from broker.domain.job import Job
from broker.domain.work import JobListing
from broker.ports.clock import Clock
from broker.transport.call import Call, Service, unary
from broker.transport.decode_admin import before, one_job
from broker.transport.decode_list import page
from broker.transport.decode_values import Found, seconds
from broker.transport.encode_job import encode_operation
from broker.transport.servicers.jobs import page_of
from broker.transport.services import JobApp
from broker.transport.status import Statuses

DONE = b""
"""An encoded google.protobuf.Empty."""


@dataclass(frozen=True, slots=True)
class OperationsServicer:
    """Serves jobs to clients that know only the common interface for long work."""

    app: JobApp
    statuses: Statuses
    clock: Clock

    def service(self) -> Service:
        """The service with its handlers."""
        return Service(
            pb.DESCRIPTOR.services_by_name["Operations"],
            {
                "ListOperations": unary(pb.ListOperationsRequest, self.list_operations),
                "GetOperation": unary(pb.GetOperationRequest, self.get),
                "DeleteOperation": unary(pb.DeleteOperationRequest, self.delete),
                "CancelOperation": unary(pb.CancelOperationRequest, self.cancel),
                "WaitOperation": unary(pb.WaitOperationRequest, self.wait),
            },
        )

    async def list_operations(self, call: Call, request: pb.ListOperationsRequest) -> bytes:
        """A page of the caller's jobs, newest first."""
        found: Found = []
        own = f"tenants/{call.context.principal.tenant}"
        if request.name not in ("", own):
            found.append(Violation("name", f"must be empty or {own!r}", "NOT_ALLOWED"))
        if request.filter:
            text = "is not offered; JobService.ListJobs filters by state and kind"
            found.append(Violation("filter", text, "NOT_ALLOWED"))
        asked = page(request, request.page_size, request.page_token, found, positions=2)
        listing = JobListing(before=before(asked, found))
        if found:
            raise invalid(found)
        jobs = await self.app.list_jobs(call.context, listing, asked.size + 1)
        shown, token = page_of(jobs, asked)
        operations = [self._encode(call, job) for job in shown]
        return pb.ListOperationsResponse(operations=operations, next_page_token=token).SerializeToString()

    async def get(self, call: Call, request: pb.GetOperationRequest) -> bytes:
        """The operation now."""
        job = await self.app.get(call.context, *one_job(request.name))
        return self._encode(call, job).SerializeToString()

    async def delete(self, call: Call, request: pb.DeleteOperationRequest) -> bytes:
        """Deletes a finished job with its result."""
        await self.app.delete(call.context, *one_job(request.name))
        return DONE

    async def cancel(self, call: Call, request: pb.CancelOperationRequest) -> bytes:
        """Asks the job to stop."""
        await self.app.cancel(call.context, *one_job(request.name))
        return DONE

    async def wait(self, call: Call, request: pb.WaitOperationRequest) -> bytes:
        """The operation once it is done, or as it is when the timeout, or the call's own time, is nearly over."""
        found: Found = []
        patience = call.context.deadline.remaining(self.clock.monotonic()) * 0.9
        if request.HasField("timeout"):
            patience = min(patience, seconds(request.timeout, "timeout", found))
        if found:
            raise invalid(found)
        named = one_job(request.name)
        job = await self.app.get(call.context, *named)
        limit = asyncio.timeout(patience)
        try:
            async with limit, aclosing(self.app.watch(call.context, *named, job.revision)) as events:
                if not job.state.final:
                    async for event in events:
                        job = event.job
        except TimeoutError:
            if not limit.expired():
                raise
        return self._encode(call, job).SerializeToString()

    def _encode(self, call: Call, job: Job) -> pb.Operation:
        def describe(error: BrokerError) -> Status:
            return self.statuses.status(error, job.request_id or call.request_id)

        return encode_operation(job, describe)
