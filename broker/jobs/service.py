"""What JobService does, in values of the domain: who may see which job, and what may be done with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta

from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid, no_such_job
from broker.domain.job import Job, JobEvent, JobState, ResultPart, part_prefix
from broker.domain.principal import Principal
from broker.domain.request import CallContext
from broker.domain.state import JobQueueState
from broker.domain.work import JobAsk, JobListing, ResultPiece
from broker.policy.backlog import BacklogLimits, refusal, start_estimate
from broker.ports.clock import Clock
from broker.ports.jobs import JobEvents, JobFilter, JobStore, Submission
from broker.ports.results import ResultStore

READ_ALL = "jobs.read_all"
"""Grant to see the jobs of others in one's tenant."""
ADMIN = "admin"
"""Grant to see and change the jobs of everybody."""
PIECE_BYTES = 1 << 20

Check = Callable[[CallContext, JobAsk], Awaitable[None]]
"""Checks a submission as its kind does, without running anything; raises BrokerError."""


@dataclass(frozen=True, slots=True)
class JobTerms:
    """What jobs are given: attempts, seconds for one attempt by kind (``timeout`` for the others).

    ``keep_alive`` is the longest silence of a watch, in seconds; ``backlog`` bounds what may wait.
    """

    max_attempts: int = 3
    timeout: float = 6 * 3600.0
    timeouts: Mapping[str, float] = field(default_factory=dict)
    keep_alive: float = 15.0
    backlog: BacklogLimits = field(default_factory=BacklogLimits)


@dataclass(frozen=True, slots=True)
class JobService:
    """Keeps jobs. ``checks`` has an entry for every kind that the server offers; ``new_id`` makes ids of jobs.

    A job that the caller may not see does not exist for them.
    """

    store: JobStore
    events: JobEvents
    results: ResultStore
    checks: Mapping[str, Check]
    clock: Clock
    new_id: Callable[[], str]
    terms: JobTerms = field(default_factory=JobTerms)

    async def submit(self, context: CallContext, ask: JobAsk) -> Job:
        """Stores the job; with ``ask.validate_only`` checks everything and returns it without an id."""
        try:
            await self._check(context, ask)
            start = await self._admit(context, ask)
        except BrokerError:
            if ask.validate_only:
                raise
            # A repeated submission gets its job, though the request may have become wrong since.
            known = await self.store.find_request(context.principal.tenant, ask.request_id)
            if known is None or known[1] != ask.spec_hash or known[0].owner != context.principal.name:
                raise
            return known[0]
        submission = Submission(
            id=self.new_id(),
            principal=context.principal,
            kind=ask.kind,
            spec=ask.spec,
            spec_hash=ask.spec_hash,
            request_id=ask.request_id,
            priority=ask.priority,
            max_attempts=self.terms.max_attempts,
            attempt_timeout=self.terms.timeouts.get(ask.kind, self.terms.timeout),
            labels=ask.labels,
            start_by_time=ask.start_by_time,
            trace=dict(context.trace),
        )
        job = self._unsaved(submission) if ask.validate_only else await self.store.submit(submission)
        if start is None or job.state is not JobState.QUEUED:
            return job
        stored_now = job.id in ("", submission.id)  # else it was submitted before
        return replace(job, estimated_time=(job.create_time if stored_now else self.clock.now()) + start)

    async def _admit(self, context: CallContext, ask: JobAsk) -> timedelta | None:
        """In what time the job may begin, as far as that is known; raises TENANT_QUOTA or OVERLOADED."""
        limits, tenant = self.terms.backlog, context.principal.tenant
        backlog = await self.store.backlog(tenant, ask.priority, limits.tenant, limits.queue)
        if (refused := refusal(backlog, limits)) is not None:
            raise refused
        return start_estimate(backlog)

    async def _check(self, context: CallContext, ask: JobAsk) -> None:
        check = self.checks.get(ask.kind)
        if check is None:
            offered = ", ".join(sorted(self.checks))
            text = f"This server does not run jobs of the kind {ask.kind!r}. It runs: {offered}."
            raise BrokerError(ErrorReason.NOT_OFFERED, text, metadata={"kind": ask.kind, "offered": offered})
        late: list[Violation] = []
        if ask.start_by_time is not None and ask.start_by_time <= self.clock.now():
            late.append(Violation("start_by_time", "must be in the future", "OUT_OF_RANGE"))
        try:
            await check(context, ask)
        except BrokerError as error:
            if error.reason is ErrorReason.INVALID_REQUEST:
                raise invalid([*error.violations, *late]) from None
            raise
        if late:
            raise invalid(late)

    def _unsaved(self, s: Submission) -> Job:
        now = self.clock.now()
        return Job(
            id="",
            tenant=s.principal.tenant,
            owner=s.principal.name,
            kind=s.kind,
            spec=s.spec,
            state=JobState.QUEUED,
            request_id=s.request_id,
            priority=s.priority,
            revision=0,
            attempt=0,
            max_attempts=s.max_attempts,
            create_time=now,
            update_time=now,
            principal=s.principal,
            attempt_timeout=s.attempt_timeout,
            labels=s.labels,
            start_by_time=s.start_by_time,
        )

    async def get(self, context: CallContext, tenant: str, job_id: str) -> Job:
        """The job."""
        return _seen(await self.store.get(tenant, job_id), context.principal, tenant, job_id)

    async def list_jobs(self, context: CallContext, listing: JobListing, limit: int) -> Sequence[Job]:
        """At most ``limit`` jobs, newest first."""
        principal = context.principal
        if listing.all_owners and not (principal.has(READ_ALL) or principal.has(ADMIN)):
            text = f"The grant {READ_ALL!r} is needed to list the jobs of others. List your own, or ask the operator."
            raise BrokerError(ErrorReason.PERMISSION_DENIED, text, metadata={"grant": READ_ALL})
        where = JobFilter(
            tenant=principal.tenant,
            owner=None if listing.all_owners else principal.name,
            states=listing.states,
            kind=listing.kind,
            dead_lettered=listing.dead_lettered,
            before=listing.before,
        )
        return await self.store.list_jobs(where, limit)

    async def cancel(self, context: CallContext, tenant: str, job_id: str) -> Job:
        """Asks the job to stop; raises JOB_STATE when it has ended otherwise."""
        await self._own(context, tenant, job_id, "cancel")
        job = await self.store.cancel(tenant, job_id, context.principal.name)
        if job is None:
            raise no_such_job(tenant, job_id)
        if job.state.final and job.state is not JobState.CANCELLED:
            raise _wrong_state(job, "cancelled", "It has ended already")
        return job

    async def watch(
        self, context: CallContext, tenant: str, job_id: str, after_revision: int
    ) -> AsyncGenerator[JobEvent, None]:
        """The job as it changes after a revision (0: from its current state); ends after the final state."""
        await self.get(context, tenant, job_id)
        async with self.events.watch(tenant, job_id, after_revision, self.terms.keep_alive) as events:
            async for event in events:
                yield event

    async def read_result(
        self, context: CallContext, tenant: str, job_id: str, part_index: int, offset: int
    ) -> AsyncGenerator[ResultPiece, None]:
        """The bytes of one file from an offset, in pieces of at most 1 MiB; at least one piece."""
        job = await self.get(context, tenant, job_id)
        part, inline = _part(job, part_index, offset)
        kept = bool(inline) or not part.key  # an empty file has no bytes to show it
        pieces = _inline(inline, offset) if kept else self.results.read(part.key, offset, PIECE_BYTES)
        first: ResultPart | None = part
        try:
            async with aclosing(pieces):
                async for data in pieces:
                    yield ResultPiece(offset, data, first)
                    offset, first = offset + len(data), None
        except FileNotFoundError:
            # It may have expired since it was looked up; else somebody has touched the files.
            _part(await self.get(context, tenant, job_id), part_index, 0)
            text = f"The file {part.file_name!r} of the result is missing. Submit the job again and tell the operator."
            raise BrokerError(ErrorReason.INTERNAL, text) from None
        if first is not None:
            yield ResultPiece(offset, b"", first)

    async def requeue(self, context: CallContext, tenant: str, job_id: str, extra_attempts: int) -> Job:
        """Puts a dead-lettered job back into the queue."""
        seen = await self._own(context, tenant, job_id, "requeue")
        job = await self.store.requeue(tenant, job_id, max(1, extra_attempts))
        if job is None:
            raise no_such_job(tenant, job_id)
        if not seen.dead_lettered or job.dead_lettered:
            raise _wrong_state(job, "requeued", "It is not in the dead-letter queue")
        return job

    async def delete(self, context: CallContext, tenant: str, job_id: str) -> None:
        """Deletes a finished job with its result."""
        await self._own(context, tenant, job_id, "delete")
        job = await self.store.delete(tenant, job_id)
        if job is None:
            raise no_such_job(tenant, job_id)
        if not job.state.final:
            raise _wrong_state(job, "deleted", "Cancel it first")
        # Files that stay because this fails belong to no job any more: the next sweep deletes them.
        await self.results.delete(part_prefix(tenant, job_id, job.fence))

    async def _own(self, context: CallContext, tenant: str, job_id: str, wish: str) -> Job:
        """The job, if the caller may change it and not only see it."""
        job = await self.get(context, tenant, job_id)
        if job.owner != context.principal.name and not context.principal.has(ADMIN):
            text = f"Only its owner {job.owner!r} or an operator may {wish} the job."
            metadata = {"owner": job.owner, "grant": ADMIN}
            raise BrokerError(ErrorReason.PERMISSION_DENIED, text, metadata=metadata)
        return job

    async def queue_state(self) -> JobQueueState:
        """The queue, for operators."""
        return await self.store.queue_state()


def _seen(job: Job | None, principal: Principal, tenant: str, job_id: str) -> Job:
    """The job, if the principal may see it."""
    if job is not None:
        mine = job.tenant == principal.tenant and (job.owner == principal.name or principal.has(READ_ALL))
        if mine or principal.has(ADMIN):
            return job
    raise no_such_job(tenant, job_id)


def _part(job: Job, index: int, offset: int) -> tuple[ResultPart, bytes]:
    """A file of the job's result, and its bytes where they are kept inline."""
    result = job.result
    if job.state is JobState.EXPIRED:
        text = "The result has been deleted after its retention. Submit the job again."
        raise BrokerError(ErrorReason.RESULT_EXPIRED, text, metadata={"job": job.name}, resource=job.name)
    if result is None:
        raise _wrong_state(job, "read", "It has no result; watch it until it has succeeded")
    if index >= len(result.parts):
        count = len(result.parts)
        text = f"the result has {count} files, numbered from 0"
        raise invalid([Violation("part_index", text, "OUT_OF_RANGE")])
    part = result.parts[index]
    if offset > part.byte_count:
        raise invalid([Violation("offset", f"the file has {part.byte_count} bytes", "OUT_OF_RANGE")])
    return part, result.inline


async def _inline(data: bytes, offset: int) -> AsyncGenerator[bytes, None]:
    for start in range(offset, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def _wrong_state(job: Job, wish: str, why: str) -> BrokerError:
    text = f"The job is {job.state.value} and cannot be {wish}. {why}."
    return BrokerError(
        ErrorReason.JOB_STATE, text, metadata={"job": job.name, "state": job.state.value}, resource=job.name
    )
