"""A question that one small statement answers needs no transaction: a statement is a snapshot of its own.

Three round trips are saved: beginning, asking for the instant, ending. The instant comes along as a column. What limits
the time is a timer here, which cancels the statement at the server; should the broker itself stand still or die, the
server notices the lost connection by itself (``client_connection_check_interval``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from broker.adapters.pg_connection import CUSTOM, Lease
from broker.adapters.pg_errors import translated
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_snapshot import Tools, within
from broker.adapters.sql.statements import Statement
from broker.domain.deadline import Deadline
from broker.domain.plan import Plan, Rows, ScanResult
from broker.domain.pool import PoolName
from broker.ports.store import AloneReading


def lone_statement(plan: Plan, tools: Tools) -> Statement | None:
    """The only statement of a plan, when its result is sure or known to be small; else None."""
    if plan.comparison is not None:
        return None
    (statements,) = tools.compiler.compile(plan)
    statement = statements.grouped
    if statement is None or statements.values:
        return None
    rows = tools.limits.rows
    small = within(statement.row_limit, rows) or within(tools.counts.get(statement.shape), rows)
    return statement if small and statement.sendable else None


async def read_alone(
    pools: PgPools, pool: PoolName, statement: Statement, deadline: Deadline, tools: Tools
) -> AloneReading | None:
    """Runs the statement; None when it has more rows than are decoded here, or reads a replica, whose lag matters."""
    now = tools.clock.monotonic
    text, values = statement.capped(tools.limits.rows + 1, dated=True)
    called = tools.clock.now()

    async def fetch(lease: Lease) -> tuple[Lease, Sequence[asyncpg.Record] | None]:
        if lease.replica:
            return lease, None
        name = statement.dataset
        span = tools.telemetry.store_span("SELECT", f"SELECT {name}", collection=name, pool=pool.value)
        with span:
            await lease.connection.plan(CUSTOM)
            return lease, await lease.connection.fetch(text, *values)

    with translated(lambda: deadline.expired(now())):
        lease, found = await pools.begin(pool, deadline.remaining(now()), fetch)
        await lease.give_back()
    if found is None:
        return None
    tools.counts.put(statement.shape, len(found))
    if len(found) > tools.limits.rows:
        return None
    # An empty result has no row to carry the instant; the broker's clock before the call is not later than the truth.
    as_of: datetime = found[0][-1] if found else called
    rows = Rows(statement.columns, tuple(tuple(row)[:-1] for row in found))
    return AloneReading((ScanResult((rows,)),), as_of)
