"""What the transport asks of the application, in values of the domain only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from broker.domain.answer import Interval
from broker.domain.deadline import Deadline
from broker.domain.held import Held
from broker.domain.job import Job, JobEvent
from broker.domain.model import Dataset
from broker.domain.principal import Principal
from broker.domain.request import (
    CallContext,
    DashboardAsk,
    DashboardOutcome,
    ExplainAsk,
    Explanation,
    ExploreAsk,
    ExploreEvent,
)
from broker.domain.rollup import Rollup
from broker.domain.state import BrokerState
from broker.domain.work import JobAsk, JobListing, ResultPiece
from broker.policy.freshness import Freshness
from broker.ports.rollups import Examined, RollupStatus


class Repeat(Protocol):
    """The held answers to panels that were answered before, as they were found and judged at the instant ``judged``."""

    found: Sequence[tuple[Held, Freshness]]
    judged: float

    def stands(self, now: float) -> bool:
        """Whether they are held still, and nothing but their age has changed, at a monotonic instant."""
        ...

    def allowed(self) -> bool:
        """Counts a call that is given them against what its caller may have; whether it may."""
        ...


class QueryApp(Protocol):
    """Answers questions. Every method raises BrokerError."""

    async def dashboard(self, context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        """One outcome for each panel, in order."""
        ...

    def explore(self, context: CallContext, ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        """The header, batches in order, the status; closing the generator stops the work."""
        ...

    async def explain(self, context: CallContext, ask: ExplainAsk) -> Explanation:
        """How the query would be answered."""
        ...


class CatalogApp(Protocol):
    """Tells what may be asked."""

    def datasets(self, principal: Principal) -> Sequence[Dataset]:
        """The datasets that the principal may query, by name."""
        ...

    def dataset(self, name: str, principal: Principal) -> Dataset:
        """One of them; raises DATASET_NOT_FOUND."""
        ...


class MadeApp(Protocol):
    """Tells what jobs made for the caller to ask."""

    async def every(self, context: CallContext) -> Sequence[Dataset]:
        """All such datasets, by name."""
        ...

    async def one(self, context: CallContext, name: str) -> Dataset | None:
        """One of them, None where there is none; raises why it cannot be had."""
        ...


class JobApp(Protocol):
    """Keeps jobs. Every method raises BrokerError: JOB_NOT_FOUND also for jobs that the caller may not see.

    A job is named by its tenant and its id, as in ``tenants/{tenant}/jobs/{job}``.
    """

    async def submit(self, context: CallContext, ask: JobAsk) -> Job:
        """Stores the job; with ``ask.validate_only`` checks everything and returns it without an id."""
        ...

    async def get(self, context: CallContext, tenant: str, job_id: str) -> Job:
        """The job."""
        ...

    async def list_jobs(self, context: CallContext, listing: JobListing, limit: int) -> Sequence[Job]:
        """At most ``limit`` jobs, newest first."""
        ...

    async def cancel(self, context: CallContext, tenant: str, job_id: str) -> Job:
        """Asks the job to stop; raises JOB_STATE when it has ended otherwise."""
        ...

    def watch(
        self, context: CallContext, tenant: str, job_id: str, after_revision: int
    ) -> AsyncGenerator[JobEvent, None]:
        """The job as it changes after a revision (0: from its current state); ends after the final state."""
        ...

    def read_result(
        self, context: CallContext, tenant: str, job_id: str, part_index: int, offset: int
    ) -> AsyncGenerator[ResultPiece, None]:
        """The bytes of one file from an offset, in pieces of at most 1 MiB; at least one piece."""
        ...

    async def requeue(self, context: CallContext, tenant: str, job_id: str, extra_attempts: int) -> Job:
        """Puts a dead-lettered job back into the queue."""
        ...

    async def delete(self, context: CallContext, tenant: str, job_id: str) -> None:
        """Deletes a finished job with its result."""
        ...


class AdminApp(Protocol):
    """Operates one broker process."""

    async def state(self) -> BrokerState:
        """What the process is doing now."""
        ...

    async def drain(self, grace: float | None) -> None:
        """Begins to drain and returns at once; None gives running calls the configured time."""
        ...


class CacheApp(Protocol):
    """Operates the cache."""

    async def invalidate(self, dataset: str, rollup: str, interval: Interval | None) -> int:
        """Removes held answers, and gives their number; raises BrokerError: DATASET_NOT_FOUND."""
        ...


class RollupApp(Protocol):
    """Operates the rollups of a model. Every method raises BrokerError: ROLLUP_NOT_FOUND, ROLLUP_STATE, ..."""

    async def rollups(
        self, dataset: str, after: tuple[str, str] | None, limit: int
    ) -> Sequence[RollupStatus]:
        """At most ``limit`` rollups by dataset and name, of one dataset or of all (empty), after a position."""
        ...

    def answer_count(self, rollup: Rollup) -> int:
        """Answers that the rollup gave since the start of this process."""
        ...

    async def verify(
        self, dataset: str, rollup: str, interval: Interval | None, deadline: Deadline
    ) -> tuple[Examined, RollupStatus]:
        """Compares a rollup with its source; one that differs from it is quarantined."""
        ...

    async def release(self, dataset: str, rollup: str) -> RollupStatus:
        """Lets a quarantined rollup answer again."""
        ...

    async def drop(self, dataset: str, rollup: str, *, keep_triggers: bool) -> None:
        """Deletes a rollup's data and, unless others need them or they are to be kept, its triggers."""
        ...
