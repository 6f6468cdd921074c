"""Makes submissions, leases and time for tests of jobs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from time import monotonic

import asyncpg

from broker.adapters.migrate import migrate
from broker.adapters.pg_jobs_open import PgJobs, open_jobs
from broker.domain.errors import BrokerError
from broker.domain.job import Job, JobState
from broker.domain.principal import Principal
from broker.jobs.hub import JobHub
from broker.ports.jobs import Submission, WorkerIdentity
from tests.support.eventually import eventually
from tests.support.pg import Connection

PRINCIPAL = Principal("ada", "acme", frozenset({"dataset:flights"}), attributes={"region": "EU"})


def submission(**changes: object) -> Submission:
    """A submission with an id and a request id of its own."""
    base = Submission(
        id=uuid.uuid4().hex,
        principal=PRINCIPAL,
        kind="test",
        spec=b"spec",
        spec_hash="hash",
        request_id=str(uuid.uuid4()),
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # the caller names fields


@dataclass(frozen=True, slots=True)
class Jobs:
    """The job database of one test, with a connection that looks at it and moves its time."""

    dsn: str
    ports: PgJobs
    admin: Connection
    hub: JobHub

    async def worker(self, seconds: float = 3600.0) -> str:
        """Registers a worker; its lease runs for so long."""
        worker_id = uuid.uuid4().hex
        lease = self.ports.lease()
        await lease.register(WorkerIdentity(worker_id, "host", 1, "test", 4), seconds)
        await lease.close()
        return worker_id

    async def claim(self, worker_id: str, limit: int = 1) -> list[Job]:
        """Claims jobs of the kind ``test``."""
        return list(await self.ports.queue.claim(worker_id, ["test"], limit))

    async def running(self, **changes: object) -> Job:
        """Submits a job and claims it by a worker of its own."""
        submitted = await self.ports.store.submit(submission(**changes))
        (job,) = await self.claim(await self.worker())
        assert job.id == submitted.id
        return job

    async def lose(self, worker_id: str) -> None:
        """Lets a worker's lease end in the past."""
        await self.admin.execute(
            "UPDATE broker.worker SET lease_expire_time = now() - interval '1 second' WHERE id = $1",
            worker_id,
        )

    async def make_due(self, job_id: str) -> None:
        """Ends the wait for a retry."""
        connection = await asyncpg.connect(self.dsn)  # `admin` does not outlive its server
        await connection.execute(
            "UPDATE broker.job SET run_at = now(), queue_rank = now() WHERE id = $1", job_id
        )
        await connection.close()

    async def until(self, job_id: str, reached: Callable[[Job], bool]) -> Job:
        """The job once it is as wanted. A state that is replaced at once may not be seen."""
        job: Job | None = None
        async with asyncio.timeout(60), self.hub.watch("acme", job_id, 0, 3600.0) as events:
            async for event in events:
                job = event.job
                if reached(job):
                    return job
        raise AssertionError(f"it ended otherwise: {job}")

    async def reachable(self) -> None:
        """Returns once the database was found to be back, after a time in which it was away."""

        async def answers() -> bool:
            try:
                await self.ports.store.versions([])
            except BrokerError:
                return False
            return True

        await eventually(answers, "the job database is found to be back")

    async def reaches(self, job_id: str, state: JobState) -> Job:
        """The job once it is in the state."""
        return await self.until(job_id, lambda job: job.state is state)

    async def listening(self) -> None:
        """Returns once hints arrive."""
        arrived = asyncio.Event()
        forget = self.ports.signals.subscribe(lambda _: arrived.set())
        if not self.ports.signals.listening:
            async with asyncio.timeout(60):
                await arrived.wait()
        forget()

    async def get(self, job_id: str) -> Job:
        """The job as it is."""
        (job,) = await self.ports.store.get_many([job_id])
        return job

    async def history(self, job_id: str) -> list[tuple[int, int, str]]:
        """Fence, attempt and outcome of the attempts that have ended."""
        rows = await self.admin.fetch(
            "SELECT fence, attempt, outcome FROM broker.job_history WHERE job_id = $1 ORDER BY fence", job_id
        )
        return [(row["fence"], row["attempt"], row["outcome"]) for row in rows]


@asynccontextmanager
async def job_database(dsn: str) -> AsyncIterator[Jobs]:
    """Migrates the database and opens it."""
    await migrate(dsn, "jobs")
    admin = await asyncpg.connect(dsn)
    try:
        async with open_jobs(dsn, connections=8, clock=monotonic, rng=Random(7)) as ports:
            hub = JobHub(ports.store, ports.signals)
            async with hub.running():
                yield Jobs(dsn, ports, admin, hub)
    finally:
        await admin.close()
