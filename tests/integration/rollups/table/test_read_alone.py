"""One statement reads a rollup's table and what is covered of it; whatever it does not cover is not answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollups import PgRollups
from broker.adapters.pg_store import PgStore
from broker.domain.plan import Scan
from broker.domain.pool import PoolName
from broker.domain.query import AbsoluteRange, Condition, Grain, Operator
from broker.domain.rollup import Span, micros
from broker.domain.timegrid import build
from broker.ports.store import AloneReading
from tests.integration.rollups.table import sales
from tests.integration.rollups.table.sales import END, START, dataset, finish, scan
from tests.integration.rollups.table.test_read_rollup import same
from tests.integration.store.conftest import CLOCK, in_time, rows_of
from tests.support.pg import Connection

SOURCE = dataset()
DECLARED = SOURCE.rollups["all"]
WHOLE = Span(micros(START), micros(END))
WIDTH = 900_000_000
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
