"""Jobs that run from the beginning: work that a process does already becomes the first attempt of one."""

from __future__ import annotations

from broker.adapters.pg_job_events import PgJobHints
from broker.adapters.pg_jobs_pool import JobDatabase
from broker.adapters.pg_jobs_rows import job_of, stored
from broker.adapters.pg_jobs_values import dump
from broker.domain.job import Job
from broker.ports.jobs import Submission

# As a submission and a claim at once, under the same guard as a claim: the lease runs.
ADOPT = """
WITH alive AS (
    SELECT id FROM broker.worker WHERE id = $13 AND NOT lost AND lease_expire_time > clock_timestamp()
), taken AS (
    INSERT INTO broker.job_request (tenant, request_id, job_id) SELECT $2, $7, $1 FROM alive
    ON CONFLICT (tenant, request_id) DO NOTHING RETURNING job_id
)
INSERT INTO broker.job (id, tenant, owner, kind, spec, spec_hash, request_id, principal, priority, max_attempts,
                        attempt_timeout, trace, queue_rank, state, fence, attempt, worker_id, start_time,
                        attempt_deadline)
SELECT job_id, $2, $3, $4, $5, $6, $7, $8::jsonb, $9::smallint, $10, $11, $12::jsonb, now(), 'running', 1, 1, $13,
       now(), now() + make_interval(secs => $11)
FROM taken
RETURNING *
"""


class PgAdoption:
    """Stores such jobs."""

    def __init__(self, database: JobDatabase, hints: PgJobHints) -> None:
        self._database = database
        self._hints = hints

    async def adopt(self, worker_id: str, submission: Submission) -> Job | None:
        """The job, running under the worker's lease with fence 1 and attempt 1; None when that lease is over.

        Raises:
            BrokerError: STORE_UNAVAILABLE; the job may be stored all the same, and then ends as one whose worker was
                lost.
        """
        s = submission
        row = await self._database.fetch_one(
            ADOPT,
            *stored(s),
            dump(s.trace),
            worker_id,
        )
        if row is None:
            return None
        self._hints.changed([s.id])
        return job_of(row)
