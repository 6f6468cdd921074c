"""A worker builds rollups: by itself all the time, and as jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollups import PgRollups
from broker.config.loader import load
from broker.domain.job import JobState
from broker.domain.model import Dataset
from broker.domain.rollup import Rollup
from broker.runtime.clock import SystemClock
from querybroker.v1 import job_pb2, job_service_pb2
from tests.conftest import FreshDatabase
from tests.support.eventually import eventually
from tests.support.jobs import job_database, submission
from tests.support.pg import Connection
from tests.support.server import running_broker

MODEL = """
datasets:
  events:
    table: public.events
    primary_key: {id: int64}
    default_time: at
    dimensions:
      id: int64
      at: {type: timestamp, time: true}
      kind: string
    measures:
      events: {kind: count}
      kinds: {kind: approx_distinct, column: id, type: int64}
    rollups:
      by_kind: {dimensions: [kind], measures: [events, kinds], refresh_every: 0.5s}
"""
EVENTS = """
CREATE TABLE events AS
  SELECT i::bigint AS id, timestamptz '2024-01-01' + i * interval '1 hour' AS at, 'kind-' || i % 3 AS kind
  FROM generate_series(1, 2000) AS i;
ALTER TABLE events ADD PRIMARY KEY (id);
"""


@dataclass(frozen=True)
class Work:
    """A database with a rollup that is installed, and the file that declares it."""

    dsn: str
    config: Path
    owner: Connection
    rollups: PgRollups
    dataset: Dataset

    @property
    def rollup(self) -> Rollup:
        return self.dataset.rollups["by_kind"]

    async def up_to_date(self) -> bool:
        """Whether all partitions are built and nothing has changed since."""
        status = await self.rollups.status(self.dataset, self.rollup)
        return status.state == "active" and all(p.segment and not p.dirty for p in status.partitions)


@pytest.fixture
async def work(fresh_database: FreshDatabase, tmp_path: Path) -> AsyncIterator[Work]:
    dsn, config = await fresh_database(), tmp_path / "model.yaml"
    for component in ("jobs", "fleet", "learned", "rollups"):
        await migrate(dsn, component)
    config.write_text(MODEL)
    owner = await asyncpg.connect(dsn)
    await owner.execute(EVENTS)
    loaded = load(config, {}, {"database.dsn": dsn})
    datasets = loaded.model.datasets
    async with open_rollup_database(dsn) as database:
        rollups = PgRollups(database, PgRollupSchema(database), datasets, SystemClock())
        await rollups.install(datasets["events"])
        yield Work(dsn, config, owner, rollups, datasets["events"])
    await owner.close()


@asynccontextmanager
async def worker(work: Work, home: Path, *, refresh: bool) -> AsyncIterator[Path]:
    """A worker process; its log."""
    overrides = {"rollups.refresh": refresh}
    with running_broker(work.dsn, home, config=work.config, overrides=overrides, role="worker") as running:
        yield running.log
        assert running.stop() == 0


async def test_a_worker_builds_what_is_missing_and_refreshes_what_changes(work: Work, tmp_path: Path) -> None:
    async with worker(work, tmp_path / "worker", refresh=True) as log:
        await eventually(work.up_to_date, "everything is built")
        assert await work.owner.fetchval("SELECT sum(row_count) FROM broker.rollup_segment") == 2000
        await work.owner.execute(
            "INSERT INTO events VALUES (0, '2024-02-03Z', 'new'), (-1, '2024-09-03Z', 'new')"
        )
        await eventually(work.up_to_date, "the change is built")
        partitions = (await work.rollups.status(work.dataset, work.rollup)).partitions
        assert sum(p.segment.row_count for p in partitions if p.segment is not None) == 2002
    assert "Traceback" not in log.read_text()


async def test_a_build_is_a_job(work: Work, tmp_path: Path) -> None:
    name = "datasets/events/rollups/by_kind"
    spec = job_pb2.JobSpec(rollup_build=job_pb2.RollupBuildJob(rollup=name))
    asked = job_service_pb2.SubmitJobRequest(spec=spec).SerializeToString(deterministic=True)
    async with job_database(work.dsn) as jobs, worker(work, tmp_path / "worker", refresh=False):
        assert not await work.up_to_date()
        submitted = await jobs.ports.store.submit(submission(kind="rollup_build", spec=asked))
        job = await jobs.until(submitted.id, lambda job: job.state.final)
        assert job.state is JobState.SUCCEEDED
        assert job.result is not None
        assert job.result.row_count == 2000
        assert job.progress.fraction == 1.0
        assert await work.up_to_date()
