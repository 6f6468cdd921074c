"""Checkpoints of jobs on PostgreSQL, written under the fence of the attempt."""

from __future__ import annotations

from broker.adapters.pg_jobs_pool import JobDatabase
from broker.domain.job import Job

# The row lock keeps a claim from coming in between: what a later attempt has loaded is never overwritten.
SAVE = """
WITH own AS (
    SELECT id FROM broker.job
    WHERE id = $1 AND fence = $2 AND worker_id = $3 AND state = 'running' FOR SHARE
)
INSERT INTO broker.job_checkpoint (job_id, fence, data) SELECT id, $2, $4 FROM own
ON CONFLICT (job_id) DO UPDATE SET fence = excluded.fence, data = excluded.data, update_time = now()
WHERE job_checkpoint.fence <= excluded.fence
RETURNING job_id
"""

LOAD = "SELECT data FROM broker.job_checkpoint WHERE job_id = $1"


class PgCheckpoints:
    """Implements Checkpoints."""

    def __init__(self, database: JobDatabase) -> None:
        self._database = database

    async def save(self, job: Job, data: bytes) -> bool:
        """Keeps the bytes in place of those before; False when the attempt is stale, which changes nothing."""
        row = await self._database.fetch_one(SAVE, job.id, job.fence, job.worker_id, data, repeatable=True)
        return row is not None

    async def load(self, job: Job) -> bytes:
        """What the attempts before saved last; empty when none did."""
        row = await self._database.fetch_one(LOAD, job.id, repeatable=True)
        return bytes(row["data"]) if row is not None else b""
