"""Where the benchmark ``export`` takes place: databases, the result store, and workers that come and go."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psutil

from broker.adapters.pg_jobs_open import PgJobs
from broker.adapters.result_dir import DirectoryResults
from broker.domain.job import Job
from broker.domain.principal import Principal
from querybroker.v1 import job_pb2, job_service_pb2, query_pb2
from tests.support.jobs import submission
from tests.support.pg import Connection
from tests.support.server import RunningBroker, running_broker

SELECT = "SELECT id, at, kind, value, note FROM {name} ORDER BY id"
DATASET = """
  {name}:
    table: public.{name}
    primary_key: {{id: int64}}
    dimensions:
      id: int64
      at: {{type: timestamp, time: true}}
      kind: string
      value: int64
      note: string
    measures: {{rows: {{kind: count}}}}
"""
CALLER = Principal("anonymous", "default", frozenset({"*"}))


class Peak:
    """The largest memory of a process and of its children, looked at again and again."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.first = self.largest = self._process.memory_info().rss
        self.child = 0

    async def watch(self) -> None:
        """Until it is cancelled. Children are looked for more seldom: that reads about every process there is."""
        for look in itertools.count():
            with suppress(psutil.NoSuchProcess):
                self.largest = max(self.largest, self._process.memory_info().rss)
                for child in self._process.children(recursive=True) if look % 10 == 0 else ():
                    self.child = max(self.child, child.memory_info().rss)
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.watch())
        try:
            yield
        finally:
            task.cancel()


class Place:
    """The databases, the store, and jobs that export one of two tables."""

    def __init__(self, dsn: str, folder: Path, ports: PgJobs, connection: Connection) -> None:
        self.dsn, self.folder, self.ports, self.connection = dsn, folder, ports, connection
        self.store = DirectoryResults(folder / "results")
        self.model = folder / "broker.yaml"
        self.model.write_text("datasets:" + DATASET.format(name="many") + DATASET.format(name="few"))

    @contextmanager
    def running(self, role: str) -> Iterator[RunningBroker]:
        """A broker or a worker."""
        overrides = {
            "jobs.lease": 1,
            "jobs.slots": 2,
            "server.sql.enabled": True,
            "jobs.result_dir": str(self.folder / "results"),
            "pools.dashboard.workers": 1,
            "pools.exploration.workers": 1,
        }
        home = self.folder / uuid.uuid4().hex
        with running_broker(self.dsn, home, config=self.model, overrides=overrides, role=role) as started:
            yield started

    async def submit(self, dataset: str) -> Job:
        """An export as CSV."""
        sql = query_pb2.SqlQuery(text=SELECT.format(name=dataset))
        export = job_pb2.ExportJob(sql=sql, format=job_pb2.EXPORT_FORMAT_CSV)
        request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(export=export))
        spec = request.SerializeToString(deterministic=True)
        return await self.ports.store.submit(submission(kind="export", spec=spec, principal=CALLER))

    async def job(self, job_id: str) -> Job:
        """As it is now."""
        (job,) = await self.ports.store.get_many([job_id])
        return job

    async def ended(self, job_id: str) -> Job:
        """Once it has ended; waits between attempts are cut short."""
        job = await self.job(job_id)
        while not job.state.final:
            await self.connection.execute(
                "UPDATE broker.job SET run_at = now(), queue_rank = now() WHERE state = 'queued' AND run_at > now()"
            )
            await asyncio.sleep(0.05)
            job = await self.job(job_id)
        return job

    async def right(self, job: Job) -> bool:
        """Whether the result is complete, and its files are what the manifest says."""
        if job.result is None:
            return False
        for part in job.result.parts:
            digest, size = hashlib.sha256(), 0
            with suppress(FileNotFoundError):
                async for piece in self.store.read(part.key, 0, 1 << 20):
                    digest.update(piece)
                    size += len(piece)
            if (size, digest.digest()) != (part.byte_count, part.sha256):
                return False
        return True

    def staged_bytes(self, job_id: str) -> int:
        """What a job has written so far."""
        total = 0
        for path in (self.folder / "results" / "staged").glob(f"*/{job_id}/*/*"):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        return total
