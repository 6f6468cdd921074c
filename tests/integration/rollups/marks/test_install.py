"""Installing: what it makes, what it does when it runs again, what it refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, Dimension
from broker.domain.query import Grain
from broker.domain.rollup import Rule, Span, Storage, Tracking
from broker.domain.values import DataType
from tests.integration.rollups.marks.conftest import YEAR_2023, YEAR_2024, World, bucket, sales
from tests.support.eventually import eventually

EVERYTHING = (Span(YEAR_2023.lo, YEAR_2024.hi),)
FOREIGN = """
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
CREATE FOREIGN TABLE v (id int, city text) SERVER s
"""
COUNT = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'rollup%'"
FUNCTIONS = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'rollup\\_____________\\_%'"


async def test_running_again_changes_nothing(world: World) -> None:
    before = await world.writer.fetch(
        "SELECT oid, xmin FROM pg_trigger WHERE tgname LIKE 'rollup%' ORDER BY 1"
    )
    assert len(before) == 4 * (1 + 6)  # the joined table; the parent with all below it
    assert await world.schema.install(world.dataset, dry_run=True) == ()
    assert await world.schema.install(world.dataset) == ()
    after = await world.writer.fetch(
        "SELECT oid, xmin FROM pg_trigger WHERE tgname LIKE 'rollup%' ORDER BY 1"
    )
    assert after == before
    coverage = await world.coverage()
    assert (len(coverage.segments), coverage.dirty, coverage.unusable) == (2, (), None)


async def test_a_dry_run_shows_what_would_be_run_and_runs_nothing(world: World) -> None:
    await world.writer.execute("DROP TABLE sales_rest; ALTER TABLE shops DISABLE TRIGGER ALL")
    shown = await world.schema.install(world.dataset, dry_run=True)
    assert (await world.coverage()).unusable is Rule.DEF
    assert await world.schema.install(world.dataset) == shown
    assert (await world.coverage()).unusable is None


async def test_what_people_are_shown_is_what_is_run(world: World) -> None:
    await world.schema.uninstall(replace(world.dataset, rollups={}))
    await world.writer.execute(
        "DROP TABLE sales CASCADE; CREATE TABLE sales (at timestamptz, shop int, amount numeric, price float8)"
    )
    await world.writer.execute("DELETE FROM broker.rollup_source")
    run = await world.schema.install(world.dataset)
    number = await world.writer.fetchval("SELECT id FROM broker.rollup_source")
    assert run == tuple(text.replace(":source", str(number)) for text in world.schema.ddl(world.dataset))


async def test_a_new_partition_is_dirty_from_its_first_to_its_last_row(world: World) -> None:
    await world.writer.execute(
        "ALTER TABLE sales DETACH PARTITION sales_2023; CREATE TABLE other (LIKE sales);"
        "INSERT INTO other VALUES (7, '2024-08-01 12:00Z', 1, 1), (8, '2024-08-02 12:30Z', 1, 1);"
        "ALTER TABLE sales ATTACH PARTITION sales_2023 FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')"
    )
    await world.schema.install(world.dataset)
    assert (await world.coverage()).dirty == EVERYTHING  # nobody knows what happened while it was detached
    await world.build(YEAR_2023)
    await world.build(YEAR_2024)
    await world.writer.execute(
        "DROP TABLE sales_2024_2;"
        "ALTER TABLE sales_2024 ATTACH PARTITION other FOR VALUES FROM ('2024-07-01') TO ('2025-01-01')"
    )
    await world.schema.install(world.dataset)
    assert (await world.coverage()).dirty == EVERYTHING  # one was dropped
    await world.build(YEAR_2023)
    await world.build(YEAR_2024)
    await world.writer.execute(
        "CREATE TABLE more (LIKE sales);"
        "ALTER TABLE sales ATTACH PARTITION more FOR VALUES FROM ('2022-01-01') TO ('2023-01-01');"
        "INSERT INTO more VALUES (1, '2022-12-31 23:50Z', 1, 1), (1, '2022-06-01', 1, 1)"
    )
    (marks,) = [text for text in await world.schema.install(world.dataset) if "rollup_mark" in text]
    assert "more" in marks
    first, last = bucket("2022-06-01 00:00"), bucket("2022-12-31 23:50")
    found = await world.writer.fetchrow("SELECT lo, hi FROM broker.rollup_mark ORDER BY xid DESC LIMIT 1")
    assert tuple(found or ()) == (first.lo, last.lo + 5 * 60_000_000 + 1)
    coverage = await world.coverage()
    assert (coverage.dirty, coverage.unusable) == ((), None)
    await world.writer.execute("INSERT INTO more VALUES (2, '2022-06-01', 1, 1)")
    assert await world.writer.fetchval("SELECT count(*) FROM broker.rollup_mark WHERE lo = $1", first.lo) == 2


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE sales_2023 DISABLE TRIGGER ALL",
        "ALTER TABLE shops ALTER COLUMN city TYPE varchar(10)",
        "{drop}",
    ],
)
async def test_anything_else_makes_everything_dirty(change: str, world: World) -> None:
    trigger = await world.writer.fetchval(
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'sales'::regclass AND tgname LIKE 'rollup%insert'"
    )
    await world.writer.execute(change.replace("{drop}", f"DROP TRIGGER {trigger} ON sales"))
    await world.schema.install(world.dataset)
    coverage = await world.coverage()
    assert (coverage.dirty, coverage.unusable) == (EVERYTHING, None)
    await world.build(YEAR_2023)
    assert (await world.coverage()).dirty == (YEAR_2024,)
    assert await world.schema.install(world.dataset) == ()


@pytest.mark.parametrize("changed", [sales(grains=(Grain.HOUR, Grain.DAY)), replace(sales(), rollups={})])
async def test_a_rollup_that_is_sealed_is_not_given_up(changed: Dataset, world: World) -> None:
    await world.writer.execute("UPDATE broker.rollup_segment SET sealed = true WHERE lo = $1", YEAR_2023.lo)
    for dry_run in (True, False):
        with pytest.raises(BrokerError) as caught:
            await world.schema.install(changed, dry_run=dry_run)
        assert caught.value.reason is ErrorReason.ROLLUP_STATE
        assert "under another name" in caught.value.message
    coverage = await world.coverage()
    assert (coverage.unusable, len(coverage.segments)) == (None, 2)
    both = {"by_city": world.rollup, "by_hour": replace(world.rollup, name="by_hour", grains=(Grain.HOUR,))}
    await world.schema.install(replace(world.dataset, rollups=both))
    assert len((await world.coverage()).segments) == 2


async def test_a_rollup_of_another_definition_is_given_up(world: World) -> None:
    changed = sales(grains=(Grain.HOUR, Grain.DAY))
    (before,) = await world.schema.coverage(changed, [changed.rollups["by_city"]], EVERYTHING[0])
    assert before.unusable is Rule.DEF
    await world.writer.execute("UPDATE broker.rollup SET quarantine = 'a mismatch'")
    assert (await world.coverage()).unusable is Rule.QUARANTINE
    await world.schema.install(changed)
    (after,) = await world.schema.coverage(changed, [changed.rollups["by_city"]], EVERYTHING[0])
    assert (after.unusable, after.segments) == (None, ())
    assert (await world.coverage()).unusable is Rule.DEF


async def test_rollups_that_are_declared_but_not_installed_disturb_no_others(world: World) -> None:
    wider = replace(world.rollup, name="wider", dimensions=("city", "shop"))
    shop = Dimension("shop", "sales.shop", DataType.INT64, ("sales",))
    dimensions = {**world.dataset.dimensions, "shop": shop}
    dataset = replace(world.dataset, dimensions=dimensions, rollups={"by_city": world.rollup, "wider": wider})
    own, other = await world.schema.coverage(dataset, [world.rollup, wider], EVERYTHING[0])
    assert (own.unusable, len(own.segments)) == (None, 2)
    assert (other.unusable, "broker rollup install" in other.message) == (Rule.COVER, True)
    await world.schema.install(dataset)
    own, other = await world.schema.coverage(dataset, [world.rollup, wider], EVERYTHING[0])
    assert (own.dirty, len(own.segments), other.unusable, other.segments) == ((), 2, None, ())


async def test_a_finer_base_makes_finer_marks(world: World) -> None:
    fine = sales(grains=(Grain.MINUTE, Grain.DAY))
    await world.schema.install(fine)
    await world.writer.execute("INSERT INTO sales VALUES (9, '2023-05-05 10:07:30Z', 1, 1)")
    lo = await world.writer.fetchrow("SELECT lo, hi - lo FROM broker.rollup_mark ORDER BY xid DESC LIMIT 1")
    assert tuple(lo or ()) == (bucket("2023-05-05 10:07").lo + 7 * 60_000_000, 60_000_000)


async def test_writers_of_an_old_function_are_waited_for(world: World) -> None:
    """One that began before a rollup needed more of its marks commits before anything is built for that rollup."""
    second = await world.connect()
    async with second.transaction():
        await second.execute("INSERT INTO sales VALUES (9, '2023-05-05 10:07Z', 1, 1)")
        fine = sales(grains=(Grain.MINUTE, Grain.DAY))
        installing = asyncio.create_task(world.schema.install(fine))

        async def waits() -> bool:
            return bool(await world.writer.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))

        await eventually(waits, "the installation waits for the writer")
        assert not installing.done()
    await installing
    await second.close()


async def test_triggers_go_with_the_last_rollup_that_needs_them(world: World) -> None:
    two = replace(
        world.dataset,
        rollups={"by_city": world.rollup, "total": replace(world.rollup, name="total", dimensions=())},
    )
    await world.schema.install(two)
    await world.writer.execute("DELETE FROM broker.rollup WHERE name = 'by_city'")
    await world.schema.uninstall(two)
    assert await world.writer.fetchval(COUNT) == 4 * 6  # none on the joined table any more
    await world.writer.execute("DELETE FROM broker.rollup")
    await world.schema.uninstall(two)
    assert await world.writer.fetchval(COUNT) == await world.writer.fetchval(FUNCTIONS) == 0
    assert await world.writer.fetchval("SELECT count(*) FROM broker.rollup_source") == 0


async def test_a_rollup_without_marks_needs_no_triggers(world: World) -> None:
    late = sales(tracking=Tracking.APPEND_ONLY, lateness=60.0)
    await world.schema.install(late)
    assert await world.writer.fetchval(COUNT) == await world.writer.fetchval(FUNCTIONS) == 0
    await world.writer.execute("ALTER TABLE sales DROP COLUMN amount")
    (coverage,) = await world.schema.coverage(late, [late.rollups["by_city"]], EVERYTHING[0])
    assert coverage.unusable is Rule.DEF


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE VIEW v AS TABLE shops", "public.v is a view, where no trigger sees changes. .*append_only"),
        ("CREATE MATERIALIZED VIEW v AS TABLE shops", "public.v is a materialized view"),
        (FOREIGN, "public.v is a foreign table"),
        ("CREATE UNLOGGED TABLE v AS TABLE shops", "public.v is not logged"),
        ("CREATE TABLE v AS TABLE shops; ALTER TABLE v ENABLE ROW LEVEL SECURITY", "public.v has row-level security"),
        ("SELECT", "public.v does not exist"),
        ("CREATE TABLE v AS TABLE shops; INSERT INTO pg_subscription_rel VALUES (1, 'v'::regclass, 'r')",
         "written by a subscription"),
    ],
)  # fmt: skip
async def test_what_cannot_be_a_source_is_refused(sql: str, said: str, world: World) -> None:
    await world.writer.execute(sql)
    joined = replace(world.dataset.joins["shops"], table="public.v")
    with pytest.raises(BrokerError, match=said) as caught:
        await world.schema.install(replace(world.dataset, joins={"shops": joined}))
    assert caught.value.reason is ErrorReason.ROLLUP_STATE
    assert (await world.coverage()).unusable is None  # what was there goes on


async def test_a_view_can_be_read_where_nothing_is_promised_of_marks(world: World) -> None:
    await world.writer.execute("CREATE VIEW v AS TABLE shops")
    joined = replace(world.dataset.joins["shops"], table="public.v")
    dataset = replace(sales(tracking=Tracking.APPEND_ONLY, lateness=60.0), joins={"shops": joined})
    await world.schema.install(dataset)
    (coverage,) = await world.schema.coverage(dataset, [dataset.rollups["by_city"]], EVERYTHING[0])
    assert coverage.unusable is None
    await world.writer.execute("CREATE OR REPLACE VIEW v AS SELECT id, upper(city) AS city, motto FROM shops")
    (coverage,) = await world.schema.coverage(dataset, [dataset.rollups["by_city"]], EVERYTHING[0])
    assert coverage.unusable is Rule.DEF


async def test_an_external_rollup_needs_no_tables_but_its_own(world: World) -> None:
    dataset = sales(storage=Storage.EXTERNAL, tracking=Tracking.NONE, relation="public.rolled")
    await world.schema.install(dataset)
    assert await world.writer.fetchval(COUNT) == 0
    (coverage,) = await world.schema.coverage(dataset, [dataset.rollups["by_city"]], EVERYTHING[0])
    assert (coverage.unusable, coverage.dirty, coverage.lateness) == (None, (), float("inf"))
