"""Exports for tests: a kind over the flights, whose stored request is the pickled ask."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_store import PgStore
from broker.domain.job import ExportFormat
from broker.domain.model import RowPolicy
from broker.domain.plan import Plan
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.query import Query, SqlQuery
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy
from broker.domain.work import ExportWork, JobAsk
from broker.jobs.export import ExportKind
from broker.jobs.sources import Sources
from broker.policy.resolve import resolve_query
from broker.ports.store import SqlPlan
from broker.runtime.clock import SystemClock
from tests.support.datasets import flights

LIMITS = PoolLimits(in_flight=8, queue=8, connections=8, workers=1)
POLICY = RowPolicy("region", "flights.origin = {attributes.origin}", ("flights",), unless=("all",))


def ask(query: Query, format: ExportFormat = ExportFormat.CSV) -> JobAsk:
    """An ask for an export; its stored form is its own pickle."""
    made = JobAsk(ExportWork(query, format), AnswerPolicy(), "", b"", "", path="spec.export")
    return JobAsk(made.work, made.policy, "", pickle.dumps(made), "", path=made.path)


def plan(query: Query, context: CallContext, path: str) -> Plan:
    """Resolves against the flights."""
    return resolve_query(query, flights(policies=[POLICY]), context.principal, context.received)


async def no_sql(context: CallContext, sql: SqlQuery, path: str) -> SqlPlan:
    """These tests have no SQL."""
    raise AssertionError(sql)


SOURCES = Sources(plan, no_sql)


@asynccontextmanager
async def export_kind(dsn: str, part_bytes: int = 64 << 20) -> AsyncIterator[ExportKind]:
    """Exports from the database at `dsn`."""
    pools = await PgPools.open(dsn, {PoolName.JOB: LIMITS, PoolName.ADMIN: LIMITS})
    try:
        clock = SystemClock()
        yield ExportKind(SOURCES, PgStore(pools, clock), pickle.loads, clock, part_bytes)
    finally:
        await pools.aclose()
