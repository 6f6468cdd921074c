"""Sources that are not followed by marks, and time dimensions that are not instants."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.domain.model import Dataset, Dimension
from broker.domain.query import Grain
from broker.domain.rollup import ALWAYS, FAR_FUTURE, Coverage, Rule, Segment, Span, Storage, Tracking, micros
from broker.domain.values import DataType
from tests.integration.rollups.marks.conftest import YEAR_2023, YEAR_2024, World, bucket, sales

MARKS = "SELECT lo, hi FROM broker.rollup_mark ORDER BY 1"


async def test_append_only_leaves_what_may_still_come_late(world: World) -> None:
    world.dataset = sales(tracking=Tracking.APPEND_ONLY, lateness=3600.0)
    await world.schema.install(world.dataset)
    now = datetime.now(UTC)
    around = Span(micros(now - timedelta(days=1)), micros(now + timedelta(days=1)))
    await world.build(YEAR_2023)
    await world.build(around)
    coverage = await world.coverage()
    (dirty,) = coverage.dirty
    assert dirty == (micros(coverage.segments[1].as_of) - 3600 * 1_000_000, around.hi)
    assert coverage.lateness == 3600.0


async def test_a_change_token_makes_everything_dirty_when_it_differs(world: World) -> None:
    world.dataset = sales(tracking=Tracking.CHANGE_TOKEN, token="SELECT count(*) FROM sales")
    await world.schema.install(world.dataset)
    token = (await world.coverage()).token
    assert token == "3"
    await world.build(YEAR_2023, token=token)
    await world.build(YEAR_2024, token="before")
    coverage = await world.coverage()
    assert (coverage.dirty, coverage.lateness) == ((YEAR_2024,), 0.0)
    await world.writer.execute("DELETE FROM sales WHERE id = 1")
    assert (await world.coverage()).dirty == (Span(YEAR_2023.lo, YEAR_2024.hi),)


async def test_a_token_may_be_null(world: World) -> None:
    world.dataset = sales(tracking=Tracking.CHANGE_TOKEN, token="SELECT max(id) FROM sales WHERE id > 100")
    await world.schema.install(world.dataset)
    await world.build(YEAR_2023, token=(await world.coverage()).token)
    assert (await world.coverage()).dirty == ()


@pytest.mark.parametrize(
    ("tracking", "expected"),
    [
        (Tracking.NONE, Coverage("by_city", lateness=float("inf"))),
        (Tracking.CHANGE_TOKEN, Coverage("by_city", lateness=float("inf"))),
        (Tracking.APPEND_ONLY, Coverage("by_city", lateness=60.0)),
    ],
)
async def test_external_rollups_cover_everything(
    tracking: Tracking, expected: Coverage, world: World
) -> None:
    world.dataset = sales(storage=Storage.EXTERNAL, tracking=tracking, lateness=60.0)
    coverage = await world.coverage()
    (whole,) = coverage.segments
    assert whole == Segment(0, ALWAYS, 0, whole.as_of, 0, 0)
    late = (Span(micros(whole.as_of) - 60_000_000, FAR_FUTURE),) if tracking is Tracking.APPEND_ONLY else ()
    assert coverage == replace(expected, segments=coverage.segments, dirty=late)


async def seal(world: World) -> None:
    """Seals the first year."""
    await world.writer.execute(
        "WITH r AS (UPDATE broker.rollup SET generation = generation + 1) "
        "UPDATE broker.rollup_segment SET sealed = true WHERE lo = $1",
        YEAR_2023.lo,
    )


async def test_sealed_segments_are_changed_by_nothing(world: World) -> None:
    await seal(world)
    await world.writer.execute("DELETE FROM sales")
    coverage = await world.coverage()
    assert (coverage.dirty, coverage.sealed) == ((bucket("2024-02-02 02:02"),), (YEAR_2023,))
    assert (await world.coverage(YEAR_2024)).sealed == ()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("ALTER TABLE sales ADD COLUMN more text; ALTER TABLE sales ALTER amount TYPE numeric(12)", Rule.DEF),
        ("UPDATE broker.rollup SET definition = 'another'", Rule.DEF),
        ("UPDATE broker.rollup SET quarantine = 'it differed'", Rule.QUARANTINE),
    ],
)
async def test_what_is_sealed_is_known_of_rollups_that_may_not_be_used(
    change: str, rule: Rule, world: World
) -> None:
    await seal(world)
    await world.writer.execute(change)
    coverage = await world.coverage()
    assert (coverage.unusable, coverage.segments, coverage.sealed) == (rule, (), (YEAR_2023,))


def timed(sql: str, kind: DataType, zone: str = "") -> Dataset:
    """The sales with a time dimension of their own."""
    made = sales(time="own", grains=(Grain.DAY,))
    time = Dimension("own", sql, kind, ("sales",), time=True, stored_zone=zone)
    return replace(made, dimensions={**made.dimensions, "own": time})


async def marked(world: World, dataset: Dataset, *values: str) -> list[Span]:
    """Marks of an insert of times."""
    await world.schema.install(dataset)
    rows = ", ".join(f"({9 + i}, {value}, 1, 1)" for i, value in enumerate(values))
    await world.writer.execute(f"TRUNCATE broker.rollup_mark; INSERT INTO sales VALUES {rows}")
    return [Span(*row) for row in await world.writer.fetch(MARKS)]


def day(text: str) -> Span:
    """A date, which counts as its midnight in UTC."""
    lo = bucket(f"{text} 00:00").lo
    return Span(lo, lo + 86_400_000_000)


async def test_a_date_marks_its_day(world: World) -> None:
    await world.writer.execute("ALTER TABLE sales ADD COLUMN day date")
    await world.schema.install(timed("sales.day", DataType.DATE))
    await world.writer.execute("TRUNCATE broker.rollup_mark")
    await world.writer.execute(
        "INSERT INTO sales (id, day) VALUES (9, '2023-05-05'), (9, '2023-05-07'), (9, '2023-05-06'), (9, NULL),"
        " (9, 'infinity'), (9, '-infinity'), (9, '5874897-12-31'), (9, '4000-01-01 BC'), (9, '2024-02-29')"
    )
    found = [Span(*row) for row in await world.writer.fetch(MARKS)]
    assert found[:2] == [Span(day("2023-05-05").lo, day("2023-05-07").hi), day("2024-02-29")]
    assert {span.lo for span in found[2:]} == {FAR_FUTURE}, "the others are past the end of time"


async def test_a_date_of_an_instant_is_that_of_utc(world: World) -> None:
    await world.writer.execute("SET timezone = 'Pacific/Kiritimati'")
    dataset = timed("sales.at::date", DataType.DATE)
    found = await marked(world, dataset, "'2023-05-05 23:30Z'", "'infinity'")
    assert [found[0], found[1].lo] == [day("2023-05-05"), FAR_FUTURE]


async def test_wall_clocks_are_read_in_their_zone(world: World) -> None:
    dataset = timed("(sales.at AT TIME ZONE 'UTC')", DataType.TIMESTAMP, "America/New_York")
    found = await marked(world, dataset, "'2023-07-01 12:00Z'", "'2023-12-01 12:00Z'")
    assert found == [bucket("2023-07-01 16:00"), bucket("2023-12-01 17:00")]


async def test_writers_do_not_fail_where_the_time_does(world: World) -> None:
    dataset = timed("(timestamptz '2023-01-01Z' + interval '1 day' / sales.amount)", DataType.TIMESTAMP)
    await world.schema.install(dataset)
    await world.writer.execute("INSERT INTO sales VALUES (9, '2023-05-05', 1, 0)")
    assert [Span(*row) for row in await world.writer.fetch(MARKS)] == [ALWAYS]
    assert await world.writer.fetchval("SELECT count(*) FROM sales WHERE id = 9") == 1


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE sales DROP COLUMN amount", "ALTER TABLE sales RENAME COLUMN at TO moment",
     "ALTER TABLE shops RENAME COLUMN city TO town", "ALTER TABLE shops DROP COLUMN city"],
)  # fmt: skip
async def test_writers_do_not_fail_where_a_column_is_gone(change: str, world: World) -> None:
    await world.writer.execute(change)
    await world.writer.execute("INSERT INTO sales (id) VALUES (9); UPDATE sales SET note = 'x' WHERE id = 9")
    await world.writer.execute("DELETE FROM sales WHERE id = 9; UPDATE shops SET motto = 'x'")
    assert ALWAYS in [Span(*row) for row in await world.writer.fetch(MARKS)]


async def test_whole_rows_are_compared_by_what_is_stored(world: World) -> None:
    await world.writer.execute(
        "ALTER TABLE sales ADD COLUMN twice numeric GENERATED ALWAYS AS (amount * 2) VIRTUAL"
    )
    made = sales(dimensions=("row",))
    whole = Dimension("row", "md5((sales.*)::text)", DataType.STRING, ("sales",))
    await world.schema.install(replace(made, dimensions={**made.dimensions, "row": whole}))
    await world.writer.execute("UPDATE sales SET note = note; UPDATE sales SET note = 'new' WHERE id = 1")
    assert [Span(*row) for row in await world.writer.fetch(MARKS)] == [bucket("2023-05-05 10:07")]


async def test_what_triggers_cannot_read_is_refused(world: World) -> None:
    await world.writer.execute(
        "ALTER TABLE sales ADD COLUMN twice numeric GENERATED ALWAYS AS (amount * 2) VIRTUAL"
    )
    made = sales(dimensions=("twice",))
    twice = Dimension("twice", "sales.twice", DataType.DECIMAL, ("sales",), scale=2)
    with pytest.raises(Exception, match=r"public\.sales\.twice is a virtual generated column"):
        await world.schema.install(replace(made, dimensions={**made.dimensions, "twice": twice}))


async def test_functions_of_a_time_need_their_schema(world: World) -> None:
    await world.writer.execute(
        "CREATE FUNCTION moved(timestamptz) RETURNS timestamptz LANGUAGE sql AS 'SELECT $1 + interval ''1 day'''"
    )
    with pytest.raises(Exception, match="Write it with its schema"):
        await world.schema.install(timed("moved(sales.at)", DataType.TIMESTAMP))
    found = await marked(world, timed("public.moved(sales.at)", DataType.TIMESTAMP), "'2023-05-05 10:07Z'")
    assert found == [bucket("2023-05-06 10:07")]


async def test_missing_tables_are_said_to_be(world: World) -> None:
    await world.writer.execute("DELETE FROM broker.rollup_source")
    coverage = await world.coverage()
    assert (coverage.unusable, coverage.segments) == (Rule.COVER, ())
    assert "broker rollup install" in coverage.message
