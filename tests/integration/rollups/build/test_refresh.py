"""Partitions are built from real rows, by real workers, and equal them at their snapshots."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, cast

import asyncpg
import polars as pl
import pytest

from broker.adapters.pg_rollups import PgRollups
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.model import Dataset
from broker.domain.rollup import Rollup, Span, Storage, instant
from broker.ports.rollups import PartitionStatus
from broker.rollups.build import BuildTools, Outcome, refresh_partition
from broker.rollups.refresh import Refresher, Refreshing, RefreshResult
from broker.runtime.clock import SystemClock
from tests.integration.rollups.build.visits import AS_TABLE, BY_SITE, visit
from tests.support.pg import Connection

LATE = datetime(2024, 2, 10, 12, 3, tzinfo=UTC)
BOTH = pytest.mark.parametrize("rollup", [BY_SITE, AS_TABLE], ids=lambda r: r.name)
Row = tuple[int, str, int, Decimal]
TRUTH = """
SELECT (extract(epoch FROM date_bin('15 minutes', at, '1970-01-01Z')) * 1000000)::bigint, site, count(*), sum(spent)
FROM visits WHERE at >= $1 AND at < $2 GROUP BY 1, 2 ORDER BY 1, 2
"""


def soon() -> Deadline:
    return Deadline.after(60, SystemClock().monotonic())


async def refresh(tools: BuildTools, dataset: Dataset, rollup: Rollup, **asked: Any) -> RefreshResult:
    return await Refresher(tools).refresh(dataset, rollup, soon(), Refreshing(**asked))


async def truth(owner: Connection, span: Span) -> list[Row]:
    return [cast(Row, tuple(row)) for row in await owner.fetch(TRUTH, instant(span.lo), instant(span.hi))]


async def stored(
    tools: BuildTools, owner: Connection, rollup: Rollup, partition: PartitionStatus
) -> list[Row]:
    """The base rows of a partition."""
    assert partition.segment is not None
    if rollup.storage is Storage.TABLE:
        text = 'SELECT (extract(epoch FROM t) * 1000000)::bigint, site, "visits.n", "spent.s"'
        text += ' FROM broker_rollup."visits.as_table" WHERE t >= $1 AND t < $2 ORDER BY 1, 2'
        found = await owner.fetch(text, instant(partition.span.lo), instant(partition.span.hi))
        return [cast(Row, tuple(row)) for row in found]
    data = await tools.rollups.fetch(partition.segment, partition.segment.files[0])
    return cast(list[Row], pl.read_ipc(io.BytesIO(data)).rows())


async def agrees(tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup) -> int:
    """Whether every segment holds what the table does where nothing has changed since; how many there are."""
    status, found = await tools.rollups.status(dataset, rollup), 0
    for partition in status.partitions:
        if partition.segment is None:
            continue
        rows, wanted = await stored(tools, owner, rollup, partition), await truth(owner, partition.span)

        def clean(row: Row, dirty: tuple[Span, ...] = partition.dirty) -> bool:
            return not any(lo <= row[0] < hi for lo, hi in dirty)

        assert list(filter(clean, rows)) == list(filter(clean, wanted))
        assert partition.dirty or len(rows) == partition.segment.row_count
        found += 1
    return found


async def clean(tools: BuildTools, dataset: Dataset, rollup: Rollup) -> bool:
    """Whether all partitions are built and nothing has changed since."""
    partitions = (await tools.rollups.status(dataset, rollup)).partitions
    return all(p.segment is not None and not p.dirty for p in partitions)


@BOTH
async def test_what_is_built_and_refreshed_equals_the_rows(
    tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup
) -> None:
    status = await tools.rollups.status(dataset, rollup)
    assert (status.state, len(status.partitions)) == ("installed", 3)
    made = await refresh(tools, dataset, rollup)
    assert made.progress.done == 3
    assert await agrees(tools, owner, dataset, rollup) == 3
    assert (await tools.rollups.status(dataset, rollup)).state == "active"
    assert (await refresh(tools, dataset, rollup)).progress.total == 0
    await visit(owner, LATE)
    await owner.execute(
        "UPDATE visits SET at = at + interval '40 days' WHERE id % 100 = 0 AND at < '2024-02-01Z'"
    )
    await owner.execute("DELETE FROM visits WHERE id % 7 = 0 AND at >= '2024-03-01Z' AND at < '2024-03-02Z'")
    await visit(owner, datetime(2024, 6, 1, 1, tzinfo=UTC))
    assert not await clean(tools, dataset, rollup)
    await agrees(tools, owner, dataset, rollup)
    assert (await refresh(tools, dataset, rollup)).progress.done == 6
    assert await clean(tools, dataset, rollup)
    assert await agrees(tools, owner, dataset, rollup) == 6
    for _ in range(2):
        await tools.rollups.sweep(dataset, 0)
    assert await owner.fetchval("SELECT count(*) FROM broker.rollup_mark") == 0
    assert await clean(tools, dataset, rollup)
    assert await agrees(tools, owner, dataset, rollup) == 6


@BOTH
async def test_only_what_has_changed_is_read_again(
    tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup
) -> None:
    await refresh(tools, dataset, rollup)
    await visit(owner, LATE)
    partition = (await tools.rollups.status(dataset, rollup)).partitions[1]
    assert [hi - lo for lo, hi in partition.dirty] == [900_000_000]
    made = await refresh_partition(tools, dataset, rollup, partition.span, soon())
    assert made.outcome is Outcome.REFRESHED
    assert await agrees(tools, owner, dataset, rollup) == 3
    assert await clean(tools, dataset, rollup)


@BOTH
async def test_a_change_that_commits_after_the_snapshot_is_found_by_the_next_refresh(
    tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup, dsn: str
) -> None:
    writer = await asyncpg.connect(dsn)
    try:
        transaction = writer.transaction()
        await transaction.start()
        await visit(writer, LATE)
        await refresh(tools, dataset, rollup)
        assert await clean(tools, dataset, rollup)
        await tools.rollups.sweep(dataset, 0)
        await transaction.commit()
    finally:
        await writer.close()
    assert not await clean(tools, dataset, rollup)
    await agrees(tools, owner, dataset, rollup)
    await tools.rollups.sweep(dataset, 0)
    assert (await refresh(tools, dataset, rollup)).progress.done == 1
    assert await clean(tools, dataset, rollup)
    assert await agrees(tools, owner, dataset, rollup) == 3


@BOTH
async def test_two_refreshers_share_the_work(
    tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup
) -> None:
    results = await asyncio.gather(*(refresh(tools, dataset, rollup) for _ in range(2)))
    versions = await owner.fetch("SELECT lo FROM broker.rollup_segment")
    assert len(versions) == len({row["lo"] for row in versions}) == 3, "nothing was built twice"
    assert sum(r.progress.done for r in results) >= 3
    assert await agrees(tools, owner, dataset, rollup) == 3


@BOTH
async def test_refreshes_among_writers_and_sweeps_never_miss_a_change(
    tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup, dsn: str
) -> None:
    writers = [await asyncpg.connect(dsn) for _ in range(2)]

    enough = asyncio.Event()

    async def write(connection: Connection, first: int) -> int:
        for i in count():
            if enough.is_set():
                return i
            async with connection.transaction():
                at = datetime(2024, 1 + i % 3, 5 + (first + i) % 20, i % 24, tzinfo=UTC)
                await visit(connection, at, "w")
                if i % 5 == first:
                    await connection.execute("DELETE FROM visits WHERE id % 60 = $1", i % 60)
        raise AssertionError

    writing = asyncio.gather(*(write(c, i) for i, c in enumerate(writers)))
    for _ in range(6):
        both = [refresh(tools, dataset, rollup) for _ in range(2)]
        await asyncio.gather(*both, tools.rollups.sweep(dataset, 0))
    enough.set()
    assert min(await writing) > 6
    for connection in writers:
        await connection.close()
    await refresh(tools, dataset, rollup)
    assert await clean(tools, dataset, rollup)
    assert await agrees(tools, owner, dataset, rollup) == 3


@BOTH
async def test_what_changed_is_not_stored_beside_rows_that_are_gone(
    tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup
) -> None:
    await refresh(tools, dataset, rollup)
    await visit(owner, LATE)
    partition = (await tools.rollups.status(dataset, rollup)).partitions[1]

    async def retire(*given: object) -> object:
        await owner.execute(
            "UPDATE broker.rollup_segment SET retire_time = now(); "
            "UPDATE broker.rollup SET generation = generation + 1"
        )
        return await tools.aggregator.segment(*cast(Any, given))

    retiring = cast(Any, type("Retiring", (), {"segment": staticmethod(retire)}))
    slow = replace(tools, aggregator=retiring)
    made = await refresh_partition(slow, dataset, rollup, partition.span, soon())
    # A file holds all rows, old and new; of a table only those that have changed were read.
    assert made.outcome is (Outcome.LOST if rollup.storage is Storage.TABLE else Outcome.REFRESHED)
    await refresh(tools, dataset, rollup)
    assert await clean(tools, dataset, rollup)
    assert await agrees(tools, owner, dataset, rollup) == 3


async def test_a_partition_that_was_sealed_outlives_its_rows(
    tools: BuildTools, kept: PgRollups, owner: Connection, dataset: Dataset
) -> None:
    await refresh(tools, dataset, BY_SITE)
    january = (await kept.status(dataset, BY_SITE)).partitions[0]
    before = await stored(tools, owner, BY_SITE, january)
    assert await kept.seal(BY_SITE, january.span) == (january.span,)
    await owner.execute("DELETE FROM visits WHERE at < '2024-02-01Z'")
    await refresh(tools, dataset, BY_SITE, rebuild=datetime.now(UTC))
    await kept.sweep(dataset, 0)
    status = await kept.status(dataset, BY_SITE)
    assert status.partitions[0].segment is not None
    assert (status.partitions[0].span, status.partitions[0].segment.sealed) == (january.span, True)
    assert status.partitions[0].dirty == ()
    assert await stored(tools, owner, BY_SITE, status.partitions[0]) == before


async def test_retention_and_start_bound_what_is_built(
    tools: BuildTools, kept: PgRollups, dataset: Dataset
) -> None:
    begun = replace(BY_SITE, start=datetime(2024, 2, 10, tzinfo=UTC))
    assert len((await kept.status(dataset, begun)).partitions) == 2
    short = replace(BY_SITE, retention=(datetime.now(UTC) - datetime(2024, 3, 2, tzinfo=UTC)).total_seconds())
    assert len((await kept.status(dataset, short)).partitions) == 1


async def test_a_wrong_year_does_not_make_thousands_of_partitions(
    kept: PgRollups, owner: Connection, dataset: Dataset
) -> None:
    await owner.execute(
        "INSERT INTO visits (at, site) VALUES ('infinity', 'a'), (NULL, 'a'), ('-infinity', 'a')"
    )
    assert len((await kept.status(dataset, BY_SITE)).partitions) == 3
    await visit(owner, datetime(9024, 1, 1, tzinfo=UTC))
    with pytest.raises(BrokerError, match="`start`"):
        await kept.status(dataset, BY_SITE)


async def test_drop_leaves_nothing(
    tools: BuildTools, kept: PgRollups, owner: Connection, dataset: Dataset
) -> None:
    for rollup in (BY_SITE, AS_TABLE):
        await refresh(tools, dataset, rollup)
    await kept.drop(dataset, AS_TABLE)
    assert await owner.fetchval("SELECT to_regclass('broker_rollup.\"visits.as_table\"')") is None
    assert (await kept.status(dataset, AS_TABLE)).state == "declared"
    assert await agrees(tools, owner, dataset, BY_SITE) == 3
    await kept.drop(dataset, BY_SITE)
    assert await owner.fetchval("SELECT count(*) FROM broker.rollup_chunk") == 0
    assert await owner.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'rollup%'") == 0
    await kept.install(dataset)
    await refresh(tools, dataset, AS_TABLE)
    assert await agrees(tools, owner, dataset, AS_TABLE) == 3


async def test_a_quarantined_rollup_is_built_anew_when_that_is_asked_for(
    tools: BuildTools, kept: PgRollups, owner: Connection, dataset: Dataset
) -> None:
    await refresh(tools, dataset, BY_SITE)
    await kept.quarantine(BY_SITE, "it was wrong")
    status = await kept.status(dataset, BY_SITE)
    assert (status.state, status.message) == ("quarantined", "it was wrong")
    assert (await refresh(tools, dataset, BY_SITE)).progress.total == 0
    assert (await refresh(tools, dataset, BY_SITE, rebuild=datetime.now(UTC))).progress.done == 3
    await kept.quarantine(BY_SITE, "")
    await kept.verified(BY_SITE)
    status = await kept.status(dataset, BY_SITE)
    assert status.state == "active"
    assert status.verify_time is not None
    assert await agrees(tools, owner, dataset, BY_SITE) == 3
