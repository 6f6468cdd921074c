"""Marks of transactions that are in progress when a segment is built: whom they concern, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.domain.rollup import ALWAYS
from tests.integration.rollups.marks.conftest import YEAR_2023, YEAR_2024, World, bucket
from tests.support.pg import Connection

OLD, LATE = bucket("2023-05-05 10:07"), bucket("2024-02-02 02:02")
SELL = "INSERT INTO sales VALUES ($1, $2::text::timestamptz, 1, 1)"
IN_OLD, IN_LATE = "2023-05-05 10:07Z", "2024-02-02 02:02Z"


@pytest.fixture
async def second(world: World) -> AsyncIterator[Connection]:
    """Another writer."""
    connection = await world.connect()
    yield connection
    await connection.close()


async def test_what_commits_after_a_build_concerns_it_though_it_was_written_before(
    world: World, second: Connection
) -> None:
    open_transaction = second.transaction()
    await open_transaction.start()
    await second.execute(SELL, 9, IN_OLD)
    await world.build(YEAR_2023)
    assert (await world.coverage()).dirty == ()  # nobody sees the row yet
    await open_transaction.commit()
    assert (await world.coverage()).dirty == (OLD,)
    await world.build(YEAR_2023)
    assert (await world.coverage()).dirty == ()


async def test_what_is_rolled_back_after_a_build_concerns_nobody(world: World, second: Connection) -> None:
    open_transaction = second.transaction()
    await open_transaction.start()
    await second.execute(SELL, 9, IN_OLD)
    await world.build(YEAR_2023)
    await open_transaction.rollback()
    assert (await world.coverage()).dirty == ()


async def test_a_mark_that_was_seen_hides_no_older_one_that_was_not(world: World, second: Connection) -> None:
    open_transaction = second.transaction()
    await open_transaction.start()
    await second.execute(SELL, 9, IN_OLD)
    await world.writer.execute(
        SELL, 10, IN_OLD
    )  # a later transaction marks the same bucket, and commits first
    await world.build(YEAR_2023)
    await world.build(YEAR_2024)
    assert (await world.coverage()).dirty == ()
    await open_transaction.commit()
    assert (await world.coverage()).dirty == (OLD,)


async def test_marks_of_subtransactions_are_those_of_their_transaction(
    world: World, second: Connection
) -> None:
    async with second.transaction():
        async with second.transaction():
            await second.execute(SELL, 9, IN_OLD)
        await world.build(YEAR_2023)
        async with second.transaction():
            await second.execute(SELL, 10, IN_LATE)
        await world.build(YEAR_2024)
    assert (await world.coverage()).dirty == (OLD, LATE)


async def test_a_snapshot_does_not_see_the_marks_of_what_it_does_not_see(
    world: World, second: Connection
) -> None:
    async with second.transaction(isolation="repeatable_read", readonly=True):
        await second.fetchval("SELECT count(*) FROM sales")
        await world.writer.execute(SELL, 9, IN_OLD)
        assert not await second.fetch("SELECT FROM broker.rollup_mark")
        assert await world.writer.fetch("SELECT FROM broker.rollup_mark")
    assert (await world.coverage()).dirty == (OLD,)


async def test_a_new_build_concerns_only_itself(world: World) -> None:
    await world.writer.execute(SELL, 9, IN_OLD)
    await world.writer.execute(SELL, 10, IN_LATE)
    assert (await world.coverage()).dirty == (OLD, LATE)
    await world.build(YEAR_2024)
    assert (await world.coverage()).dirty == (OLD,)


async def test_a_segment_from_an_older_snapshot_than_the_others_is_read_right(world: World) -> None:
    older = await world.snapshot()
    await world.writer.execute(SELL, 9, IN_LATE)
    await world.build(YEAR_2023)
    await world.build(YEAR_2024)
    assert (await world.coverage()).dirty == ()
    await world.build(
        YEAR_2024, older
    )  # published late; what is remembered of marks does not reach so far back
    assert (await world.coverage()).dirty == (LATE,)


async def test_coverage_is_clipped_to_the_span(world: World) -> None:
    await world.writer.execute(SELL, 9, IN_OLD)
    await world.writer.execute("TRUNCATE shops")
    assert (await world.coverage(OLD)).dirty == (OLD,)
    assert [s.span for s in (await world.coverage(OLD)).segments] == [YEAR_2023]
    beside = await world.coverage(ALWAYS._replace(hi=YEAR_2023.lo))
    assert (beside.segments, beside.dirty) == ((), ())


async def test_tens_of_thousands_of_marks_are_a_few_spans(world: World) -> None:
    await world.writer.execute(
        "INSERT INTO broker.rollup_mark (source, lo, hi)"
        " SELECT id, $1 + g % 96 * 900000000, $1 + g % 96 * 900000000 + 900000000"
        " FROM broker.rollup_source, generate_series(1, 50000::bigint) AS g",
        YEAR_2024.lo,
    )
    (dirty,) = (await world.coverage()).dirty
    assert dirty == (YEAR_2024.lo, YEAR_2024.lo + 96 * 900_000_000)
