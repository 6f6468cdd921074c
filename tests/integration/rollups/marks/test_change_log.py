"""What a poller of a real PostgreSQL sees of changes: nothing that changed is ever taken for unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from random import Random

import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_changes import Changes
from broker.adapters.pg_changes_poll import ChangePoller
from broker.adapters.pg_connection import Settings
from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollup_sweep import sweep
from broker.demo.embedded import EmbeddedPostgres
from broker.domain.held import Reach
from broker.domain.model import Dataset, RowPolicy
from broker.domain.plan import Finish, Plan, Scan
from broker.domain.query import AbsoluteRange, Query
from broker.domain.rollup import Tracking
from broker.policy.reach import reach_of
from tests.conftest import FreshDatabase
from tests.integration.rollups.marks.conftest import SCHEMA, YEAR_2023, YEAR_2024, World, sales
from tests.support.pg import Connection

YEARS = tuple(datetime(year, 1, 1, tzinfo=UTC) for year in (2023, 2024, 2025))
SELL = "INSERT INTO sales VALUES ($1, $2::text::timestamptz, 1, 1)"
IN_2023, IN_2024 = "2023-05-05 10:07Z", "2024-02-02 02:02Z"


def plan(
    dataset: Dataset,
    first: datetime | None = YEARS[0],
    last: datetime = YEARS[1],
    *,
    by: tuple[str, ...] = (),
    measures: tuple[str, ...] = ("sold",),
    policies: tuple[RowPolicy, ...] = (),
) -> Plan:
    """A plan that reads measures of a range, or of everything."""
    scan = Scan(
        dataset,
        tuple(dataset.dimensions[name] for name in by),
        tuple(dataset.measures[name] for name in measures),
        dataset.dimensions["at"] if first is not None else None,
        AbsoluteRange(first, last) if first is not None else None,
        policies=policies,
    )
    return Plan(Query(dataset.name, measures), scan, None, Finish((), (), (), ()), "p")


class Clock:
    """Time that passes by a millisecond whenever it is asked, and by what a test adds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@dataclass
class Watch:
    """A change log, and who tells it."""

    changes: Changes
    poller: ChangePoller
    clock: Clock

    def moment(self, asked: Plan) -> str:
        return self.changes.moment(asked)

    async def still(self, reach: Reach, moment: str) -> bool:
        """Whether it is unchanged by a new look."""
        await self.poller.turn()
        return self.changes.unchanged(reach, moment) is not None


def watching(dsn: str, *datasets: Dataset) -> Watch:
    clock = Clock()
    changes = Changes(datasets, clock, patience=1.0)
    return Watch(changes, ChangePoller(changes, dsn, Settings(), 0.01, clock, Random(1)), clock)


@pytest.fixture
async def watch(world: World) -> AsyncIterator[Watch]:
    made = watching(world.dsn, world.dataset)
    await made.poller.turn()
    yield made
    made.poller.close()


async def test_only_what_is_read_counts(world: World, watch: Watch) -> None:
    old, late = plan(world.dataset), plan(world.dataset, YEARS[1], YEARS[2])
    moment = watch.moment(old)
    assert moment
    before = watch.changes.generation
    assert await watch.still(reach_of(old), moment)
    assert watch.changes.generation == before
    await world.writer.execute(SELL, 9, IN_2024)
    assert await watch.still(reach_of(old), moment)
    assert not await watch.still(reach_of(late), moment)
    assert watch.changes.generation > before
    assert await watch.still(reach_of(late), watch.moment(late)), "a later answer has the change"
    await world.writer.execute("UPDATE sales SET note = 'other'")
    assert await watch.still(reach_of(old), moment), "nobody reads notes"
    await world.writer.execute("UPDATE sales SET amount = amount + 1 WHERE id = 1")
    assert not await watch.still(reach_of(old), moment)
    moment = watch.moment(old)
    await world.writer.execute("DELETE FROM sales_2023 WHERE id = 2")  # past the parent
    assert not await watch.still(reach_of(old), moment)
    moment = watch.moment(old)
    await world.writer.execute("UPDATE shops SET city = 'Rome' WHERE id = 1")
    assert not await watch.still(reach_of(old), moment), "any row may join to it"
    moment = watch.moment(old)
    await world.writer.execute("TRUNCATE sales")
    assert not await watch.still(reach_of(old), moment)


async def test_what_marks_do_not_tell_of_has_no_moment(world: World, watch: Watch) -> None:
    dataset = world.dataset
    assert not watch.moment(plan(dataset, None)), "rows without a time leave no marks"
    assert not watch.moment(plan(dataset, YEARS[0], datetime(9999, 12, 31, tzinfo=UTC)))
    assert watch.moment(plan(dataset, by=("city",), measures=("sold", "paid")))
    unread = RowPolicy("own", "sales.note = {tenant}", ("sales",))
    assert not watch.moment(plan(dataset, policies=(unread,)))
    read = RowPolicy("big", "sales.amount > 1 AND shops.city = {tenant}", ("sales", "shops"))
    assert watch.moment(plan(dataset, policies=(read,)))
    assert not watch.moment(plan(sales())), "another model"
    await world.writer.execute("ALTER TABLE sales_2023 DISABLE TRIGGER USER")
    moment = watch.moment(plan(dataset))
    assert not await watch.still(reach_of(plan(dataset)), moment)
    assert not watch.moment(plan(dataset))
    await world.schema.install(dataset)
    assert not await watch.still(reach_of(plan(dataset)), moment), "who knows what was written meanwhile"
    assert await watch.still(reach_of(plan(dataset)), watch.moment(plan(dataset)))
    assert watch.changes.extent().keys() == {"sales"}


async def test_a_writer_that_commits_later_is_not_missed(world: World, watch: Watch) -> None:
    asked = plan(world.dataset)
    second = await world.connect()
    async with second.transaction():
        await second.execute(SELL, 9, IN_2023)
        await watch.poller.turn()
        moment = watch.moment(asked)
        await world.writer.execute("UPDATE sales SET amount = 7 WHERE id = 3")  # a later one, elsewhere
        assert await watch.still(reach_of(asked), moment)
    assert not await watch.still(reach_of(asked), moment)
    async with second.transaction():
        await second.execute(SELL, 10, IN_2023)
        await watch.poller.turn()
        moment = watch.moment(asked)
        await world.writer.execute(SELL, 11, IN_2023)  # seen before the older transaction is
        await watch.poller.turn()
        newer = watch.moment(asked)
        assert await watch.still(reach_of(asked), newer)
    assert not await watch.still(reach_of(asked), newer)
    await second.close()


async def test_looks_grow_old_while_the_server_is_away(world: World, watch: Watch) -> None:
    asked = plan(world.dataset)
    moment = watch.moment(asked)
    watch.clock.now += 0.5
    age = watch.changes.unchanged(reach_of(asked), moment)
    assert age is not None
    assert age >= 0.5
    watch.clock.now += 0.6
    assert watch.changes.unchanged(reach_of(asked), moment) is None
    assert not watch.moment(asked)
    assert (watch.changes.extent()["sales"] or 0.0) > 1.0
    await world.writer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    )
    await watch.poller.turn()
    assert await watch.still(reach_of(asked), moment), "nothing was missed"
    await world.writer.execute(SELL, 9, IN_2023)
    await world.writer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    )
    await watch.poller.turn()
    assert not await watch.still(reach_of(asked), moment), "what was written meanwhile is found"


async def test_marks_that_were_swept_unseen_lose_sight_of_older_answers(world: World, watch: Watch) -> None:
    asked = plan(world.dataset)
    moment = watch.moment(asked)
    await world.writer.execute(SELL, 9, IN_2024)
    assert await watch.still(reach_of(asked), moment)
    await _rebuilt(world)
    assert await watch.still(reach_of(asked), moment), "what was swept had been seen"
    await world.writer.execute(SELL, 10, IN_2024)
    await _rebuilt(world)
    assert await world.writer.fetchval("SELECT count(*) FROM broker.rollup_mark") == 0
    assert not await watch.still(reach_of(asked), moment), "it may have been another year"
    moment = watch.moment(asked)
    assert await watch.still(reach_of(asked), moment)
    other = watching(world.dsn, world.dataset)
    assert await other.still(reach_of(asked), moment), "moments are read by every replica"
    other.poller.close()


async def _rebuilt(world: World) -> None:
    await world.build(YEAR_2023)
    await world.build(YEAR_2024)
    async with open_rollup_database(world.dsn) as database, database.transaction() as connection:
        await sweep(connection, world.dataset, 0, YEARS[2])


async def test_rollups_that_are_not_installed_track_nothing_and_tokens_do(
    fresh_database: FreshDatabase,
) -> None:
    dsn = await fresh_database()
    by_token = sales(tracking=Tracking.CHANGE_TOKEN, token="SELECT max(id) FROM sales")
    watch, other = watching(dsn, sales()), watching(dsn, by_token)
    await watch.poller.turn()
    assert not watch.moment(plan(sales()))
    assert watch.changes.extent() == {"sales": None}
    other.poller.close()
    watch.poller.close()


async def test_a_change_token_tells_that_something_changed(world: World) -> None:
    dataset = sales(tracking=Tracking.CHANGE_TOKEN, token="SELECT max(id) FROM sales")
    watch = watching(world.dsn, dataset)
    asked = plan(dataset, None)
    await watch.poller.turn()
    moment = watch.moment(asked)
    assert moment
    watch.clock.now += 1
    assert await watch.still(reach_of(asked), moment)
    await world.writer.execute(SELL, 9, IN_2024)
    watch.clock.now += 1
    assert not await watch.still(reach_of(asked), moment)
    await world.writer.execute("ALTER TABLE sales RENAME TO sold")
    watch.clock.now += 1
    assert not await watch.still(reach_of(asked), watch.moment(asked))
    assert not watch.moment(asked)
    watch.poller.close()


async def test_a_crash_begins_a_history_and_a_restart_does_not(own_postgres: EmbeddedPostgres) -> None:
    dsn = own_postgres.dsn()
    dataset = sales()
    watch, asked = watching(dsn, dataset), plan(dataset)
    await _prepared(dsn, dataset)
    await watch.poller.turn()
    moment = watch.moment(asked)
    assert moment
    await asyncio.to_thread(own_postgres.stop, "fast")
    await watch.poller.turn()
    await asyncio.to_thread(own_postgres.start)
    assert await watch.still(reach_of(asked), moment), "everything is as it was"
    await asyncio.to_thread(own_postgres.stop, "immediate")
    await asyncio.to_thread(own_postgres.start)
    await watch.poller.turn()
    assert not await watch.still(reach_of(asked), moment)
    assert await watch.still(reach_of(asked), watch.moment(asked))
    watch.poller.close()


async def _prepared(dsn: str, dataset: Dataset) -> None:
    async with open_rollup_database(dsn) as database:
        async with database.connection() as connection:
            await connection.execute(SCHEMA)
        await migrate(dsn, "rollups")
        await PgRollupSchema(database).install(dataset)


_ANSWER = (
    "SELECT (SELECT coalesce(sum(amount), 0) FROM sales WHERE at >= $1 AND at < $2)::text || coalesce(("
    " SELECT string_agg(city, ',' ORDER BY id) FROM shops), '')"
)


async def test_writers_at_random_and_no_answer_is_wrongly_unchanged(world: World, watch: Watch) -> None:
    random, numbers = Random(20260301), count(100)
    writers = [await world.connect() for _ in range(3)]
    reader = await world.connect()
    open_now: dict[Connection, object] = {}
    months = [datetime(2023 + i // 12, 1 + i % 12, 1, tzinfo=UTC) for i in range(24)]
    held: list[tuple[Plan, Reach, str, str]] = []
    checks = wrong = same = needless = 0
    for _ in range(400):
        await _write(random.choice(writers), open_now, random, months, next(numbers))
        if random.random() < 0.5:
            await watch.poller.turn()
        if random.random() < 0.5:
            first = random.randrange(23)
            last = random.randrange(first + 1, 24)
            asked = plan(world.dataset, months[first], months[last], by=("city",))
            moment = watch.moment(asked)
            await _write(random.choice(writers), open_now, random, months, next(numbers))
            held.append((asked, reach_of(asked), moment, await _answer(reader, asked)))
            held = held[-25:]
        if random.random() < 0.3:
            await watch.poller.turn()
            for asked, reach, moment, answer in held:
                known = watch.changes.unchanged(reach, moment) is not None
                equal = await _answer(reader, asked) == answer
                checks += 1
                wrong += known and not equal
                same += equal
                needless += equal and not known
    for connection in [*writers, reader]:
        await connection.close()
    assert wrong == 0
    assert checks > 2000
    assert same > 300
    assert needless < 0.25 * same, (checks, same, needless)


async def _answer(reader: Connection, asked: Plan) -> str:
    bounds = asked.main.bounds
    assert bounds is not None
    return str(await reader.fetchval(_ANSWER, bounds.start, bounds.end))


async def _write(
    writer: Connection,
    open_now: dict[Connection, object],
    random: Random,
    months: list[datetime],
    number: int,
) -> None:
    """One step of a writer: begins, writes, commits or rolls back."""
    transaction = open_now.pop(writer, None)
    if transaction is not None and random.random() < 0.4:
        await (transaction.commit() if random.random() < 0.7 else transaction.rollback())  # type: ignore[attr-defined] # a transaction
        return
    if transaction is None and random.random() < 0.4:
        transaction = writer.transaction()
        await transaction.start()
    if transaction is not None:
        open_now[writer] = transaction
    at = random.choice(months).replace(day=2)
    match random.randrange(20):
        case 0:
            await writer.execute("UPDATE sales SET note = 'x' WHERE id = $1", number - 5)
        case 1 | 2:
            await writer.execute("DELETE FROM sales WHERE id = $1", number - 3 if transaction is None else -1)
        case 3 if not any(each is not writer for each in open_now):
            await writer.execute("UPDATE shops SET city = $1 WHERE id = 2", f"c{number % 3}")
        case _:
            await writer.execute("INSERT INTO sales VALUES ($1, $2, 1, $3)", number, at, number % 7)
