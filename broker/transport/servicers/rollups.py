"""The methods of AdminService over rollups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.domain.answer import Interval
from broker.domain.errors import invalid
from broker.domain.job import Job
from broker.transport.call import Call, Endpoint, unary
from broker.transport.decode_job import decode_submission, interval, rollup_name
from broker.transport.decode_list import dataset_name, page
from broker.transport.decode_values import Found
from broker.transport.encode_rollup import MAX_MISMATCHES, encode_rollup, encode_span
from broker.transport.servicers.jobs import JobServicer
from broker.transport.services import RollupApp
from querybroker.v1 import admin_service_pb2 as pb
from querybroker.v1 import job_pb2, job_service_pb2

GRANT = "admin"


@dataclass(frozen=True, slots=True)
class RollupMethods:
    """Operates rollups; every method needs the grant ``admin``. Building and refreshing are jobs like any other."""

    app: RollupApp
    jobs: JobServicer

    def endpoints(self) -> Mapping[str, Endpoint]:
        """The methods by name."""
        return {
            "ListRollups": unary(pb.ListRollupsRequest, self.list_rollups),
            "BuildRollup": unary(pb.BuildRollupRequest, self.build),
            "RefreshRollup": unary(pb.RefreshRollupRequest, self.refresh),
            "VerifyRollup": unary(pb.VerifyRollupRequest, self.verify),
            "ReleaseQuarantine": unary(pb.ReleaseQuarantineRequest, self.release),
            "DropRollup": unary(pb.DropRollupRequest, self.drop),
        }

    async def list_rollups(self, call: Call, request: pb.ListRollupsRequest) -> bytes:
        """A page of rollups by name."""
        call.require(GRANT)
        found: Found = []
        asked = page(request, request.page_size, request.page_token, found, positions=2)
        if found:
            raise invalid(found)
        dataset = dataset_name(request.dataset, "dataset") if request.dataset else ""
        after = (asked.after[0], asked.after[1]) if asked.after else None
        rollups = await self.app.rollups(dataset, after, asked.size + 1)
        shown, token = rollups[: asked.size], ""
        if len(rollups) > len(shown):
            token = asked.token([shown[-1].rollup.dataset, shown[-1].rollup.name])
        response = pb.ListRollupsResponse(
            rollups=[encode_rollup(each, self.app.answer_count(each.rollup)) for each in shown],
            next_page_token=token,
        )
        return response.SerializeToString()

    async def build(self, call: Call, request: pb.BuildRollupRequest) -> bytes:
        """Submits a job that builds a rollup."""
        work = job_pb2.RollupBuildJob(rollup=request.name)
        if request.HasField("interval"):
            work.interval.CopyFrom(request.interval)
        job = await self._submitted(call, request, job_pb2.JobSpec(rollup_build=work))
        return pb.BuildRollupResponse(job=self.jobs.encode(call, job)).SerializeToString()

    async def refresh(self, call: Call, request: pb.RefreshRollupRequest) -> bytes:
        """Submits a job that refreshes a rollup."""
        work = job_pb2.RollupRefreshJob(rollup=request.name)
        if request.HasField("interval"):
            work.interval.CopyFrom(request.interval)
        job = await self._submitted(call, request, job_pb2.JobSpec(rollup_refresh=work))
        return pb.RefreshRollupResponse(job=self.jobs.encode(call, job)).SerializeToString()

    async def verify(self, call: Call, request: pb.VerifyRollupRequest) -> bytes:
        """Compares a rollup with its source."""
        call.require(GRANT)
        dataset, rollup, limits = _named(request)
        examined, status = await self.app.verify(dataset, rollup, limits, call.context.deadline)
        response = pb.VerifyRollupResponse(
            compared_bucket_count=examined.buckets,
            mismatched_bucket_count=examined.mismatched,
            mismatches=[encode_span(span) for span in examined.mismatches[:MAX_MISMATCHES]],
            rollup=encode_rollup(status, self.app.answer_count(status.rollup)),
        )
        return response.SerializeToString()

    async def release(self, call: Call, request: pb.ReleaseQuarantineRequest) -> bytes:
        """Lets a quarantined rollup answer again."""
        call.require(GRANT)
        dataset, rollup, _ = _named(request)
        status = await self.app.release(dataset, rollup)
        shown = encode_rollup(status, self.app.answer_count(status.rollup))
        return pb.ReleaseQuarantineResponse(rollup=shown).SerializeToString()

    async def drop(self, call: Call, request: pb.DropRollupRequest) -> bytes:
        """Deletes a rollup's data and its triggers."""
        call.require(GRANT)
        dataset, rollup, _ = _named(request)
        await self.app.drop(dataset, rollup, keep_triggers=request.keep_triggers)
        return pb.DropRollupResponse().SerializeToString()

    async def _submitted(
        self, call: Call, request: pb.BuildRollupRequest | pb.RefreshRollupRequest, spec: job_pb2.JobSpec
    ) -> Job:
        call.require(GRANT)
        _named(request)  # violations name the fields of this request, not those of a submission
        submission = job_service_pb2.SubmitJobRequest(spec=spec)
        ask = decode_submission(submission, self.jobs.defaults, self.jobs.ids())
        return await self.jobs.app.submit(call.context, ask)


_Named = (
    pb.BuildRollupRequest
    | pb.RefreshRollupRequest
    | pb.VerifyRollupRequest
    | pb.ReleaseQuarantineRequest
    | pb.DropRollupRequest
)


def _named(request: _Named) -> tuple[str, str, Interval | None]:
    """Dataset, rollup and interval of a request; raises INVALID_REQUEST."""
    found: Found = []
    dataset, rollup = rollup_name(request.name, "name", found)
    limits: Interval | None = None
    if not isinstance(request, pb.ReleaseQuarantineRequest | pb.DropRollupRequest) and request.HasField(
        "interval"
    ):
        limits = interval(request.interval, "interval", found)
    if found:
        raise invalid(found)
    return dataset, rollup, limits
