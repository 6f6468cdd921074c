"""Opens the job database: everything that processes need of it, over one small pool and one listening connection."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random

from broker.adapters.pg_adoption import PgAdoption
from broker.adapters.pg_checkpoints import PgCheckpoints
from broker.adapters.pg_job_events import PgJobHints, PgJobSignals
from broker.adapters.pg_jobs import PgJobStore
from broker.adapters.pg_jobs_keeper import PgJobKeeper, PgWorkerLease
from broker.adapters.pg_jobs_pool import open_job_database
from broker.adapters.pg_jobs_queue import PgJobQueue
from broker.adapters.pg_ranges import PgRanges
from broker.ports.jobs import RunningLimits
from broker.telemetry.instruments import Telemetry


@dataclass(frozen=True, slots=True)
class PgJobs:
    """The job database's ports. ``lease`` makes a lease connection for the event loop that it is called in."""

    store: PgJobStore
    queue: PgJobQueue
    keeper: PgJobKeeper
    signals: PgJobSignals
    checkpoints: PgCheckpoints
    adoption: PgAdoption
    ranges: PgRanges
    lease: Callable[[], PgWorkerLease]


@asynccontextmanager
async def open_jobs(
    dsn: str,
    *,
    connections: int,
    clock: Callable[[], float],
    rng: Random,
    telemetry: Telemetry | None = None,
    limits: RunningLimits | None = None,
) -> AsyncIterator[PgJobs]:
    """The ports over the database at ``dsn``; it may be unreachable, which every call then says.

    ``clock`` is monotonic, in seconds. Claims keep to ``limits``, which must be the same for all workers. Hints are
    sent and heard while the context is open.
    """
    async with open_job_database(dsn, connections, rng.random, telemetry) as database:
        hints = PgJobHints(database)
        signals = PgJobSignals(dsn, f"broker_job_probe_{uuid.UUID(int=rng.getrandbits(128)).hex}", rng)
        queue = PgJobQueue(database, hints, clock, limits)
        signals.subscribe(queue.hear)
        async with hints.running(), signals.running():
            yield PgJobs(
                store=PgJobStore(database, hints),
                queue=queue,
                keeper=PgJobKeeper(database, hints),
                signals=signals,
                checkpoints=PgCheckpoints(database),
                adoption=PgAdoption(database, hints),
                ranges=PgRanges(database, hints),
                lease=partial(PgWorkerLease, dsn),
            )
