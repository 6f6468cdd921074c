"""What a poller of a real PostgreSQL sees of changes: nothing that changed is ever taken for unchanged."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_ddl import OUTSIDE
from broker.adapters.pg_rollup_sweep import sweep
from broker.demo.embedded import EmbeddedPostgres
from broker.domain.model import RowPolicy
from broker.domain.rollup import Tracking
from broker.policy.reach import reach_of
from tests.conftest import FreshDatabase
from tests.integration.rollups.marks.conftest import YEAR_2023, YEAR_2024, World, sales
from tests.integration.rollups.marks.watching import YEARS, Watch, plan, prepared, watching
from tests.support.eventually import eventually

SELL = "INSERT INTO sales VALUES ($1, $2::text::timestamptz, 1, 1)"
CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'querybroker changes'
"""
IN_2023, IN_2024 = "2023-05-05 10:07Z", "2024-02-02 02:02Z"


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


NOWHERE = (
    "INSERT INTO sales VALUES (20, NULL, 1, 1)",
    "UPDATE sales SET amount = 9 WHERE at IS NULL",
    "UPDATE sales SET at = 'infinity' WHERE at IS NULL",
    "DELETE FROM sales WHERE at = 'infinity'",
    "INSERT INTO sales VALUES (21, '2023-05-05 10:07Z', 1, 1), (22, NULL, 1, 1)",
    "UPDATE sales SET amount = amount + 1 WHERE id IN (21, 22)",
    "DELETE FROM sales WHERE at IS NULL",
    "INSERT INTO sales VALUES (23, '294276-12-31Z', 1, 1), (24, '4713-01-01 BC', 1, 1)",
)
"""Changes of rows without a time that a segment can hold, some of them beside others."""


async def test_everything_may_be_read_whatever_time_rows_have(world: World, watch: Watch) -> None:
    for asked in (
        plan(world.dataset, None),
        plan(world.dataset, YEARS[0], datetime(9999, 12, 31, tzinfo=UTC)),
    ):
        moment = watch.moment(asked)
        assert moment
        assert await watch.still(reach_of(asked), moment)
        for change in NOWHERE:
            await world.writer.execute(change)
            assert not await watch.still(reach_of(asked), moment), change
            moment = watch.moment(asked)
            assert await watch.still(reach_of(asked), moment), change
        await world.writer.execute("DELETE FROM sales WHERE id > 20")
        await watch.poller.turn()
    other = plan(world.dataset, YEARS[1], YEARS[2])
    moment = watch.moment(other)
    await world.writer.execute(NOWHERE[0])
    assert await watch.still(reach_of(other), moment), "no range has rows without a time"


async def test_functions_of_before_do_not_mark_rows_without_a_time(world: World, watch: Watch) -> None:
    asked = plan(world.dataset, None)
    moment = watch.moment(asked)
    name = await world.writer.fetchval("SELECT tag || '_rows' FROM broker.rollup_source")
    text = await world.writer.fetchval(
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'broker'::regnamespace AND proname = $1",
        name,
    )
    assert OUTSIDE in text
    await world.writer.execute(text.replace(OUTSIDE, "END"))
    await world.writer.execute(
        "UPDATE broker.rollup_source SET fingerprint = broker.rollup_catalog(tables, owners, columns, tag)"
    )
    assert not await watch.still(reach_of(asked), moment)
    assert not watch.moment(asked)
    bounded = plan(world.dataset)
    assert await watch.still(reach_of(bounded), watch.moment(bounded))
    await world.schema.install(world.dataset)
    await watch.poller.turn()
    assert await watch.still(reach_of(asked), watch.moment(asked)), "they were made anew"


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
    await world.writer.execute(CUT)
    await watch.poller.turn()
    assert await watch.still(reach_of(asked), moment), "nothing was missed"
    await world.writer.execute(SELL, 9, IN_2023)
    await world.writer.execute(CUT)
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


async def test_more_marks_than_are_remembered_lose_sight_as_well(world: World, watch: Watch) -> None:
    asked = plan(world.dataset)
    moment = watch.moment(asked)
    await world.writer.execute(
        "INSERT INTO broker.rollup_mark (source, lo, hi) SELECT id, $1::bigint + g, $1 + g + 1"
        " FROM broker.rollup_source, generate_series(1, 20001) AS g",
        YEAR_2024.lo,
    )
    assert not await watch.still(reach_of(asked), moment)
    moment = watch.moment(asked)
    assert await watch.still(reach_of(asked), moment)
    await world.writer.execute(SELL, 9, IN_2023)
    assert not await watch.still(reach_of(asked), moment)


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
    await prepared(dsn, dataset)
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
    moment = watch.moment(asked)
    assert await watch.still(reach_of(asked), moment)
    victim = await asyncpg.connect(dsn)
    os.kill(await victim.fetchval("SELECT pg_backend_pid()"), signal.SIGKILL)
    victim.terminate()

    async def recovered() -> bool:
        await watch.poller.turn()
        return watch.moment(asked).partition("|")[0] not in ("", moment.partition("|")[0])

    await eventually(recovered, "the server is back with another history")
    assert not await watch.still(reach_of(asked), moment), "all sessions were ended, as by a crash"
    watch.poller.close()
