"""Seats for jobs: an attempt reads from the database only while it holds one, like every request of a caller.

Jobs have no deadline to keep, so they wait as long as it takes; while they do they hold nothing but their place among
the worker's slots.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from broker.domain.job import Job
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.values import AdmissionRequest, Outcome
from broker.runtime.admission import Admission

Seat = Callable[[Job], AbstractAsyncContextManager[Callable[[], None]]]
"""Waits for a seat for an attempt on entering; what it gives is called when the database has been read."""


def job_seats(admission: Admission) -> Seat:
    """Seats of the pool of jobs."""

    @asynccontextmanager
    async def seat(job: Job) -> AsyncIterator[Callable[[], None]]:
        request = AdmissionRequest(
            id=f"{job.id}/{job.fence}",
            tenant=job.tenant,
            pool=PoolName.JOB,
            deadline_at=math.inf,
            criticality=job.principal.criticality,
        )
        async with admission.permit(request) as permit:
            yield lambda: permit.close(Outcome.SUCCESS)

    return seat


@asynccontextmanager
async def no_seat(_: Job) -> AsyncIterator[Callable[[], None]]:
    """For attempts that nobody counts."""
    yield lambda: None


def patient(limits: PoolLimits, slots: int) -> PoolLimits:
    """The limits of the pool of jobs in a worker with so many slots: none of its attempts is ever refused."""
    return replace(
        limits, in_flight=slots, queue=slots, tenant_queue=slots, wait_fraction=1.0, tenant_share=1.0
    )
