"""What a kind of job is: a name and a coroutine that does the work of one attempt. ``docs/jobs.md`` has an example."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from broker.domain.deadline import Deadline
from broker.domain.job import Job, JobProgress, JobResult, part_prefix
from broker.jobs.children import Children
from broker.ports.results import ResultStore


@dataclass(frozen=True, slots=True)
class JobContext:
    """What an attempt may use.

    ``job.fence`` with ``job.id`` names the attempt for ever: effects outside of PostgreSQL carry it as their key, since
    an attempt that seemed lost may still be under way. ``cancelled`` is set when the attempt is to stop; the coroutine
    that runs it is cancelled at the same moment, so that only threads need to look at it. ``report`` tells how far the
    attempt is; it never waits, and what comes faster than twice a second is merged. A kind sets ``leaves`` once it has
    published files that the next attempt may take over: then they are not deleted unless the job itself ends.
    """

    job: Job
    deadline: Deadline
    results: ResultStore
    children: Children
    report: Callable[[JobProgress], None]
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    leaves: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def prefix(self) -> str:
        """Where the attempt keeps its files in the result store."""
        return part_prefix(self.job.tenant, self.job.id, self.job.fence)


class JobKind(Protocol):
    """Work that an attempt does."""

    @property
    def name(self) -> str:
        """Name, as in ``Job.kind``."""
        ...

    async def run(self, context: JobContext) -> JobResult:
        """Does the work from the beginning and returns what it left.

        An error that is raised ends the attempt: a BrokerError by its reason, which says whether another attempt may
        help (:mod:`broker.domain.attempts`); any other as INTERNAL, with its text in the log only. When the coroutine
        is cancelled it stops everything that it started before it ends: no job is called cancelled while work runs.
        """
        ...
