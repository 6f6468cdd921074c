"""Exports for tests: a kind over the flights, whose stored request is the pickled ask."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_store import PgStore
from broker.adapters.result_dir import DirectoryResults
from broker.domain.errors import BrokerError, invalid
from broker.domain.job import ExportFormat, Job
from broker.domain.model import RowPolicy
from broker.domain.plan import Plan
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.principal import Principal
from broker.domain.query import Query, SqlQuery
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy
from broker.domain.work import ExportWork, JobAsk
from broker.jobs.export import ExportKind
from broker.jobs.export_range import ExportRangeKind
from broker.jobs.kind import JobKind
from broker.jobs.sources import Sources
from broker.policy.resolve import resolve_query
from broker.ports.jobs import Submission
from broker.ports.ranges import JobRanges
from broker.ports.store import SqlPlan
from broker.runtime.clock import SystemClock
from tests.support.datasets import flights
from tests.support.jobs import Jobs, submission

LIMITS = PoolLimits(in_flight=8, queue=8, connections=8, workers=1)
POLICY = RowPolicy("region", "flights.origin = {attributes.origin}", ("flights",), unless=("all",))


def ask(query: Query, format: ExportFormat = ExportFormat.CSV) -> JobAsk:
    """An ask for an export; its stored form is its own pickle."""
    made = JobAsk(ExportWork(query, format), AnswerPolicy(), "", b"", "", path="spec.export")
    return JobAsk(made.work, made.policy, "", pickle.dumps(made), "", path=made.path)


def plan(query: Query, context: CallContext, path: str) -> Plan:
    """Resolves against the flights."""
    try:
        return resolve_query(query, flights(policies=[POLICY]), context.principal, context.received)
    except BrokerError as error:
        raise invalid([v.under(path) for v in error.violations]) from None


async def no_sql(context: CallContext, sql: SqlQuery, path: str) -> SqlPlan:
    """These tests have no SQL."""
    raise AssertionError(sql)


SOURCES = Sources(plan, no_sql)


@asynccontextmanager
async def export_kinds(
    dsn: str, ranges: JobRanges, count: int, part_bytes: int = 64 << 20
) -> AsyncIterator[dict[str, JobKind]]:
    """Exports in `count` ranges whatever their size, the ranges of others, and as `plain` exports that are not cut."""
    async with export_kind(dsn, part_bytes) as plain:
        split = replace(plain, ranges=ranges, range_bytes=1, most_ranges=count)
        part = ExportRangeKind(SOURCES, plain.store, pickle.loads, ranges, part_bytes)
        yield {"export": split, "plain": plain, part.name: part}


@asynccontextmanager
async def export_kind(dsn: str, part_bytes: int = 64 << 20) -> AsyncIterator[ExportKind]:
    """Exports from the database at `dsn`."""
    pools = await PgPools.open(dsn, {PoolName.JOB: LIMITS, PoolName.ADMIN: LIMITS})
    try:
        clock = SystemClock()
        yield ExportKind(SOURCES, PgStore(pools, clock), pickle.loads, clock, part_bytes)
    finally:
        await pools.aclose()


SEES_ALL = Principal("ada", "acme", frozenset({"all"}))
ROWS = Query("flights", ("flights", "distance", "hours"), ("tailnum", "dest", "carrier"))
ROWS_SQL = """
SELECT tailnum, dest, carrier, count(*) AS flights, sum(distance) AS distance,
       round(sum(air_time / 60.0), 2) AS hours
FROM flights GROUP BY 1, 2, 3
ORDER BY tailnum COLLATE "C" NULLS LAST, dest COLLATE "C" NULLS LAST, carrier COLLATE "C" NULLS LAST
"""


def export(query: Query, format: ExportFormat, principal: Principal = SEES_ALL) -> Submission:
    """A submission of an export."""
    return submission(kind="export", spec=ask(query, format).spec, principal=principal, attempt_timeout=300.0)


async def contents(job: Job, directory: Path) -> list[bytes]:
    """The files of a finished job, read back through the store and checked against the manifest."""
    assert job.result is not None
    files = []
    for part in job.result.parts:
        data = job.result.inline
        if part.key:
            pieces = DirectoryResults(directory).read(part.key, 0, 100_000)
            data = b"".join([piece async for piece in pieces])
        assert (len(data), hashlib.sha256(data).digest()) == (part.byte_count, part.sha256)
        files.append(data)
    assert job.result.byte_count == sum(map(len, files))
    return files


GATE = """
CREATE FUNCTION gate() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_lock_shared(42); PERFORM pg_advisory_unlock_shared(42); RETURN true;
END $$;
ALTER TABLE flights RENAME TO flights_behind;
CREATE VIEW flights AS SELECT * FROM flights_behind WHERE (SELECT gate());
"""


@asynccontextmanager
async def closed_gate(jobs: Jobs) -> AsyncIterator[None]:
    """Statements on the flights that begin to run while the context is open wait until it is left."""
    await jobs.admin.execute("SELECT pg_advisory_lock(42)")
    try:
        yield
    finally:
        await jobs.admin.execute("SELECT pg_advisory_unlock(42)")


async def someone_waits(jobs: Jobs) -> None:
    """Returns once a statement waits at the gate."""
    async with asyncio.timeout(60):
        while not await jobs.admin.fetchval(  # noqa: ASYNC110 - PostgreSQL sends no signal when a lock is waited for
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ):
            await asyncio.sleep(0.01)
