"""A question that a small part of one rollup table answers, in one statement: the coverage, and the rows beside it.

A statement is a snapshot of its own, so what it says of marks, segments and the catalog holds for the rows that it
read from the table. Both come in one row, the columns of the rows as arrays. When the coverage is not what was hoped
for, the rows are thrown away.

Two snapshots of one server with the same text see the same transactions: every commit that writes changes it. So while
it is that of the statement before on the connection, marks, segments and catalog are not read again.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import asyncpg

from broker.adapters.pg_connection import CUSTOM, GENERIC, Lease
from broker.adapters.pg_errors import translated
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_rollup_coverage import MISSING, Asked
from broker.adapters.pg_rollup_records import State, state_of
from broker.adapters.pg_snapshot import Tools, within
from broker.adapters.sql.statements import Statement
from broker.adapters.sql.types import quoted
from broker.adapters.sql.values import DIALECT, Value
from broker.domain.deadline import Deadline
from broker.domain.model import Dataset
from broker.domain.plan import Columns, Finish, Scan, ScanResult
from broker.domain.pool import PoolName
from broker.domain.query import AllOf, Condition, Operator
from broker.domain.rollup import Rollup, Span, covers
from broker.ports.store import AloneReading

_SNAPSHOT = "pg_current_snapshot()::text"
# The state, unless the snapshot is the known one: the function is called for the one row that there is then. OFFSET 0
# keeps the condition below the call.
_UNKNOWN = (
    f"SELECT f.* FROM (SELECT $1::text AS dataset WHERE {_SNAPSHOT} IS DISTINCT FROM $5::text OFFSET 0) AS u, "  # noqa: S608 - texts of our own
    "LATERAL broker.rollup_state(u.dataset, $2, $3, $4) AS f"
)
_STATE_VALUES = 5
"""Parameters of the state, the last the snapshot in which it is known; they come before those of the rows."""


@dataclass(frozen=True, slots=True)
class RolledStatement:
    """The statement over a rollup's table, how it is planned, and what it is to be covered by."""

    dataset: Dataset
    rollup: Rollup
    spans: tuple[Span, ...]
    rows: Statement
    plan: str
    asked: Asked

    @property
    def key(self) -> Hashable:
        """The rollup."""
        return self.dataset.name, self.rollup.time, self.rollup.name


class _Told(NamedTuple):
    """What a snapshot told of a rollup, by what it was asked for."""

    snapshot: str
    asked: tuple[object, ...]
    state: State


def rolled_statement(
    scan: Scan, finish: Finish, rollup: Rollup, spans: Sequence[Span], tools: Tools, alike: Hashable = None
) -> RolledStatement | None:
    """The statement, when its result is sure or known to be small and the rollup's segments are known; else None.

    Scans that are ``alike`` differ in bounds, grid and the values of the filter.
    """
    rows = tools.rolled.again(alike, scan, rollup, spans) if alike is not None else None
    if rows is None:
        statements = tools.compiler.rolled(scan, finish, rollup, spans)
        if statements is None or statements.grouped is None:
            return None
        rows = statements.grouped
        if alike is not None:
            tools.rolled.keep(alike, scan, rollup, spans, rows)
    limit = tools.limits.rows
    small = within(rows.row_limit, limit) or within(tools.counts.get(rows.shape), limit)
    asked = tools.coverage.asked(scan.dataset, rollup)
    if not small or asked is None or not rows.sendable:
        return None
    plan = GENERIC if _one_range(scan, rollup) else CUSTOM
    return RolledStatement(scan.dataset, rollup, tuple(spans), rows, plan, asked)


async def read_rolled_alone(
    pools: PgPools, pool: PoolName, wanted: RolledStatement, deadline: Deadline, tools: Tools
) -> AloneReading | None:
    """Runs the statement; None when its snapshot does not cover the spans, or the rows are many, or on a replica."""
    now, limit = tools.clock.monotonic, tools.limits.rows
    text = tools.beside.setdefault(wanted.rows.shape, lambda: beside(wanted.rows))
    values: tuple[Value, ...] = (*wanted.rows.values, limit + 1)

    async def fetch(lease: Lease) -> tuple[Lease, asyncpg.Record | None]:
        if lease.replica:
            return lease, None
        connection, told = lease.connection, _told(lease, wanted)
        name = wanted.dataset.name
        span = tools.telemetry.store_span("SELECT", f"SELECT {name}", collection=name, pool=pool.value)
        with span:
            await connection.plan(wanted.plan)
            known = told.snapshot if told is not None else None
            try:
                return lease, await connection.fetchrow(text, *wanted.asked.values, known, *values)
            except MISSING:
                return lease, None

    with translated(lambda: deadline.expired(now())):
        lease, found = await pools.begin(pool, deadline.remaining(now()), fetch)
        state = None if found is None else _learned(lease, wanted, found)
        await lease.give_back()
    if found is None or state is None:
        return None
    coverage = tools.coverage.told(wanted.dataset, wanted.rollup, _hull(wanted.spans), wanted.asked, state)
    columns = found[-len(wanted.rows.columns) :]
    count = len(columns[0] or ())
    tools.counts.put(wanted.rows.shape, count)
    if coverage is None or count > limit or not covers(coverage, wanted.spans):
        return None
    block = Columns(wanted.rows.columns, [column or () for column in columns])
    return AloneReading((ScanResult((block,)),), found["as_of"], (coverage,))


def beside(rows: Statement) -> str:
    """The prepared text: state, instant, and the columns of some rows as arrays; the last value limits their number."""
    own = rows.compiled.text.numbered(_STATE_VALUES)
    names = [quoted(column.name, i).sql(dialect=DIALECT) for i, column in enumerate(rows.columns)]
    arrays = ", ".join(f"array_agg(g.{name}) AS a{i}" for i, name in enumerate(names))
    place = f"${_STATE_VALUES + len(rows.values) + 1}::bigint"
    return (
        f"SELECT {_SNAPSHOT} AS seen, now() AS as_of, s.*, r.* FROM "  # noqa: S608 - compiled text
        f"(SELECT {arrays} FROM (SELECT * FROM ({own}) AS capped ORDER BY 1 LIMIT {place}) AS g) AS r LEFT JOIN "
        f"({_UNKNOWN}) AS s ON true"
    )


def _told(lease: Lease, wanted: RolledStatement) -> _Told | None:
    """What is known from the statement before; of this connection only, since another may lead to another server."""
    told: _Told | None = lease.connection.told.get(wanted.key)
    return told if told is not None and told.asked == wanted.asked.values else None


def _learned(lease: Lease, wanted: RolledStatement, found: asyncpg.Record) -> State:
    told = _told(lease, wanted)
    if told is not None and told.snapshot == found["seen"]:
        return told.state
    state = state_of(found)
    lease.connection.told[wanted.key] = _Told(found["seen"], wanted.asked.values, state)
    return state


def _one_range(scan: Scan, rollup: Rollup) -> bool:
    """Whether the rows are one range of the table's index whatever the values are, so that one plan serves them all."""
    node = scan.filter
    return any(
        isinstance(each, Condition) and each.operator is Operator.EQ and each.member in rollup.dimensions[:1]
        for each in (node.filters if isinstance(node, AllOf) else (node,))
    )


def _hull(spans: Sequence[Span]) -> Span:
    return Span(spans[0].lo, spans[-1].hi)
