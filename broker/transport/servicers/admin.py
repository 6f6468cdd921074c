"""AdminService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from broker.domain.errors import BrokerError, ErrorReason
from broker.transport.call import Call, Endpoint, Service, streaming, unary
from broker.transport.decode_admin import grace, one_job, state_interval
from broker.transport.encode_state import encode_state
from broker.transport.servicers.cache import CacheMethods
from broker.transport.servicers.jobs import JobServicer
from broker.transport.servicers.rollups import RollupMethods
from broker.transport.services import AdminApp, CacheApp, RollupApp
from querybroker.v1 import admin_service_pb2 as pb

GRANT = "admin"


@dataclass(frozen=True, slots=True)
class AdminServicer:
    """Operates the broker; every method needs the grant ``admin``.

    Without ``rollups``, or ``cache``, their methods are not offered.
    """

    app: AdminApp
    jobs: JobServicer
    rollups: RollupApp | None = None
    cache: CacheApp | None = None

    def service(self) -> Service:
        """The service with its handlers."""
        return Service(
            pb.DESCRIPTOR.services_by_name["AdminService"],
            {
                "GetState": unary(pb.GetStateRequest, self.get_state, while_draining=True),
                "WatchState": streaming(
                    pb.WatchStateRequest, self.watch_state, watch="state", while_draining=True
                ),
                **self._rollups(),
                "RequeueJob": unary(pb.RequeueJobRequest, self.requeue),
                "DeleteJob": unary(pb.DeleteJobRequest, self.delete),
                "InvalidateCache": self._cache(),
                "Drain": unary(pb.DrainRequest, self.drain, while_draining=True),
            },
        )

    def _cache(self) -> Endpoint:
        if self.cache is None:
            return not_offered(pb.InvalidateCacheRequest, "The cache of this server is off.")
        return CacheMethods(self.cache).endpoint()

    def _rollups(self) -> Mapping[str, Endpoint]:
        if self.rollups is not None:
            return RollupMethods(self.rollups, self.jobs).endpoints()
        requests = (
            pb.ListRollupsRequest,
            pb.BuildRollupRequest,
            pb.RefreshRollupRequest,
            pb.VerifyRollupRequest,
            pb.ReleaseQuarantineRequest,
            pb.DropRollupRequest,
        )
        text = "The model of this server declares no rollups."
        return {r.DESCRIPTOR.name.removesuffix("Request"): not_offered(r, text) for r in requests}

    async def get_state(self, call: Call, _request: pb.GetStateRequest) -> bytes:
        """What the broker is doing."""
        call.require(GRANT)
        state = encode_state(await self.app.state())
        return pb.GetStateResponse(state=state).SerializeToString()

    async def watch_state(self, call: Call, request: pb.WatchStateRequest) -> AsyncGenerator[bytes, None]:
        """What the broker is doing, again and again until the caller stops listening."""
        call.require(GRANT)
        interval = state_interval(request.HasField("interval"), request.interval)
        while True:
            state = encode_state(await self.app.state())
            yield pb.WatchStateResponse(state=state).SerializeToString()
            await asyncio.sleep(interval)

    async def requeue(self, call: Call, request: pb.RequeueJobRequest) -> bytes:
        """Puts a dead-lettered job back into the queue."""
        call.require(GRANT)
        named = one_job(request.name, extra_attempts=request.extra_attempts)
        job = await self.jobs.app.requeue(call.context, *named, request.extra_attempts or 1)
        return pb.RequeueJobResponse(job=self.jobs.encode(call, job)).SerializeToString()

    async def delete(self, call: Call, request: pb.DeleteJobRequest) -> bytes:
        """Deletes a finished job with its result."""
        call.require(GRANT)
        await self.jobs.app.delete(call.context, *one_job(request.name))
        return pb.DeleteJobResponse().SerializeToString()

    async def drain(self, call: Call, request: pb.DrainRequest) -> bytes:
        """Begins to drain; the state in the response is that of the beginning."""
        call.require(GRANT)
        seconds = grace(request.HasField("grace"), request.grace)
        await self.app.drain(seconds)
        state = encode_state(await self.app.state())
        return pb.DrainResponse(state=state).SerializeToString()


def not_offered(request: type[Message], why: str) -> Endpoint:
    """A method of the contract that this server was built or started without."""

    async def refuse(call: Call, message: Message) -> bytes:
        call.require(GRANT)
        method = call.context.method
        text = f"{why} {message.DESCRIPTOR.name.removesuffix('Request')} is not offered."
        raise BrokerError(ErrorReason.NOT_OFFERED, text, metadata={"method": method})

    return unary(request, refuse)
