"""One statement reads a rollup's table and what is covered of it; whatever it does not cover is not answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_rolled_alone import beside
from broker.adapters.pg_rollup_coverage import SNAPSHOT
from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollups import PgRollups
from broker.adapters.pg_store import PgStore
from broker.domain.plan import Scan
from broker.domain.pool import PoolName
from broker.domain.query import AbsoluteRange, Condition, Grain, Operator, Query
from broker.domain.rollup import Span, micros
from broker.domain.timegrid import build
from broker.ports.store import AloneReading
from tests.integration.rollups.table import sales
from tests.integration.rollups.table.sales import END, START, dataset, finish, scan
from tests.integration.rollups.table.test_read_rollup import same
from tests.integration.store.conftest import CLOCK, in_time, plan_of, rows_of
from tests.support.pg import Connection

SOURCE = dataset()
DECLARED = SOURCE.rollups["all"]
WHOLE = Span(micros(START), micros(END))
WIDTH = 900_000_000
_PLANS = (
    "SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements WHERE parameter_types <> '{}'"
)
SEGMENT = """
INSERT INTO broker.rollup_segment (rollup, lo, hi, version, snapshot, as_of, row_count, byte_count)
SELECT r.id, $1, $2, 1, $3::text::pg_snapshot, now(), 0, 0 FROM broker.rollup AS r
"""


@dataclass(frozen=True)
class Place:
    """A store, and the right to change what it reads."""

    store: PgStore
    owner: Connection

    async def alone(self, wanted: Scan, *spans: Span) -> AloneReading | None:
        """The reading by one statement."""
        return await self.store.read_rolled_alone(
            PoolName.DASHBOARD, wanted, finish(wanted), DECLARED, spans or (WHOLE,), in_time()
        )

    async def by_snapshot(self, wanted: Scan) -> None:
        """The reading by a transaction, which learns the segments and the number of rows."""
        async with self.store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
            await snapshot.coverage(SOURCE, [DECLARED], WHOLE)
            await snapshot.read_rollup(wanted, finish(wanted), DECLARED, (WHOLE,))


@pytest.fixture
async def place(store: PgStore, owner: Connection, sales_dsn: str) -> Place:
    """The rollup installed and built as one segment, and known to the store."""
    await migrate(sales_dsn, "rollups")
    async with open_rollup_database(sales_dsn) as database:
        rollups = PgRollups(database, PgRollupSchema(database), {SOURCE.name: SOURCE}, CLOCK)
        await rollups.install(SOURCE)
    wanted = sales.whole(SOURCE, DECLARED)
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        _, text = await snapshot.coverage(SOURCE, [DECLARED], WHOLE)
        await sales.store(owner, SOURCE, DECLARED, await snapshot.read_scan(wanted, finish(wanted)))
    await owner.execute(SEGMENT, *WHOLE, text)
    await changed(owner)
    return Place(store, owner)


async def changed(owner: Connection) -> None:
    """What every change of segments does."""
    await owner.execute("UPDATE broker.rollup SET generation = generation + 1")


def question() -> Scan:
    bounds = AbsoluteRange(START, END)
    grid = build(bounds, Grain.WEEK, "UTC")
    wanted = scan(SOURCE, dimensions=("city", "gift", "unit"), grid=grid, bounds=bounds)
    return replace(wanted, filter=Condition("item", Operator.EQ, ("pen",)))


async def test_the_statement_gives_what_the_tables_give(place: Place) -> None:
    wanted = question()
    assert await place.alone(wanted) is None, "nothing is known of the rollup yet"
    await place.by_snapshot(wanted)
    found = await place.alone(wanted)
    assert found is not None
    async with place.store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        expected = await snapshot.read_scan(wanted, finish(wanted))
    assert same(rows_of(found.results[0].grouped), rows_of(expected.grouped), 4)
    assert [(each.rollup, [s.span for s in each.segments]) for each in found.coverage] == [("all", [WHOLE])]


async def test_no_rows_are_an_answer_too(place: Place) -> None:
    wanted = replace(question(), filter=Condition("item", Operator.EQ, ("no such",)))
    await place.by_snapshot(wanted)
    found = await place.alone(wanted)
    assert found is not None
    assert rows_of(found.results[0].grouped) == []


async def test_without_keys_there_is_one_row(place: Place) -> None:
    wanted = replace(scan(SOURCE, bounds=AbsoluteRange(START, END)), filter=None)
    await place.by_snapshot(wanted)
    found = await place.alone(wanted)
    assert found is not None
    assert len(rows_of(found.results[0].grouped)) == 1


async def test_one_range_of_the_index_is_planned_once_and_all_else_for_its_values(place: Place) -> None:
    narrow, wide = question(), replace(question(), filter=Condition("city", Operator.EQ, ("Aachen",)))
    for wanted in (narrow, wide):
        await place.by_snapshot(wanted)
    live = plan_of(Query("sales", ("count",), filter=narrow.filter), SOURCE)
    for _ in range(2):
        for wanted in (narrow, wide):
            assert await place.alone(wanted) is not None
        assert await place.store.read_alone(PoolName.DASHBOARD, live, in_time()) is not None
    async with place.store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        await snapshot.read_scan(narrow, finish(narrow))
        plans = await snapshot.fetch("plans", _PLANS)
    rolled = [tuple(row)[1:] for row in plans if "AS as_of" in row["statement"]]
    assert sorted(rolled) == [(0, 2), (2, 0)], "by city, by item"
    others = [
        row["generic_plans"]
        for row in plans
        if "sales.item" in row["statement"] and "AS as_of" not in row["statement"]
    ]
    assert others
    assert not any(others)


async def test_what_a_snapshot_tells_is_read_once(place: Place) -> None:
    """In a transaction the snapshot stays what it is, whoever else is at the server."""
    wanted = question()
    await place.by_snapshot(wanted)
    statements = place.store._tools.compiler.rolled(wanted, finish(wanted), DECLARED, (WHOLE,))
    assert statements is not None
    assert statements.grouped is not None
    text, values = beside(statements.grouped), (*statements.grouped.values, 10)
    state: tuple[object, ...] = (SOURCE.name, "at", 0, [])
    async with place.owner.transaction(isolation="repeatable_read"):
        now = await place.owner.fetchval(SNAPSHOT)
        new = await place.owner.fetchrow(text, *state, None, *values)
        other = await place.owner.fetchrow(text, *state, "1:1:", *values)
        known = await place.owner.fetchrow(text, *state, now, *values)
    assert new is not None
    assert known is not None
    assert new == other
    assert (new["seen"], new["intact"], new["names"]) == (now, True, ["all"])
    assert (known["seen"], known["intact"], known["names"]) == (now, None, None)
    assert new["a0"]
    assert known["a0"] == new["a0"]


async def _late(owner: Connection) -> None:
    await owner.execute("INSERT INTO sales (id, at, item) VALUES (1000000, $1, 'pen')", START)


async def _quarantine(owner: Connection) -> None:
    await owner.execute("UPDATE broker.rollup SET quarantine = 'it was wrong'")


async def _unwatched(owner: Connection) -> None:
    await owner.execute("ALTER TABLE sales DISABLE TRIGGER ALL")


async def _joined(owner: Connection) -> None:
    await owner.execute("UPDATE shops SET city = 'Ulm' WHERE id = 1")


async def _replaced(owner: Connection) -> None:
    await owner.execute("UPDATE broker.rollup_segment SET retire_time = now()")
    await changed(owner)


async def _gone(owner: Connection) -> None:
    await owner.execute("DROP SCHEMA broker CASCADE")


@pytest.mark.parametrize("change", [_late, _quarantine, _unwatched, _joined, _replaced, _gone])
async def test_what_is_not_covered_any_more_is_not_answered(
    place: Place, change: Callable[[Connection], Awaitable[None]]
) -> None:
    wanted = question()
    await place.by_snapshot(wanted)
    assert await place.alone(wanted) is not None
    await change(place.owner)
    assert await place.alone(wanted) is None


async def test_marks_elsewhere_do_not_matter(place: Place) -> None:
    wanted = question()
    await place.by_snapshot(wanted)
    await _late(place.owner)
    assert await place.alone(wanted, Span(WHOLE.lo, WHOLE.lo + 4 * WIDTH)) is None
    assert await place.alone(wanted, Span(WHOLE.lo + WIDTH, WHOLE.hi)) is not None
    assert (
        await place.alone(wanted, Span(WHOLE.lo - WIDTH, WHOLE.lo), Span(WHOLE.lo + WIDTH, WHOLE.hi)) is None
    )


async def test_an_uncommitted_mark_is_not_seen_and_a_committed_one_is(place: Place, sales_dsn: str) -> None:
    wanted = question()
    await place.by_snapshot(wanted)
    async with place.owner.transaction():
        await _late(place.owner)
        found = await place.alone(wanted)
        assert found is not None
    assert await place.alone(wanted) is None
