"""Leases, publishing, sealing and sweeping, as the tables have them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest

from broker.adapters.pg_rollup_database import RollupDatabase
from broker.adapters.pg_rollups import PgRollups
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.query import Grain
from broker.domain.rollup import Rollup, SegmentFile, Span, Storage, micros
from broker.ports.rollups import BuildLease, Built, LeaseLostError
from broker.runtime.clock import SystemClock
from tests.integration.rollups.build.conftest import ByHand
from tests.integration.rollups.build.visits import AS_TABLE, BY_SITE
from tests.support.pg import Connection


def month(number: int) -> Span:
    return Span(
        micros(datetime(2024, number, 1, tzinfo=UTC)), micros(datetime(2024, number + 1, 1, tzinfo=UTC))
    )


async def built(owner: Connection, data: bytes = b"file", rows: int = 1) -> Built:
    """A build from a snapshot that is taken now."""
    row = await owner.fetchrow("SELECT pg_current_snapshot()::text AS snapshot, now() AS as_of")
    assert row is not None
    file = SegmentFile(Grain.FIFTEEN_MINUTES, rows, len(data), hashlib.sha256(data).hexdigest())
    return Built(row["snapshot"], row["as_of"], rows, (file,), (data,))


async def mark(owner: Connection, span: Span) -> None:
    await owner.execute("INSERT INTO broker.rollup_mark (source, lo, hi) VALUES (1, $1, $2)", *span)


async def marks(owner: Connection) -> int:
    return int(await owner.fetchval("SELECT count(*) FROM broker.rollup_mark"))


async def leased(rollups: PgRollups, span: Span, holder: str = "one", seconds: float = 60) -> BuildLease:
    lease = await rollups.lease(BY_SITE, span, holder, seconds)
    assert lease is not None
    return lease


async def test_one_of_two_gets_a_partition_and_fences_only_grow(rollups: PgRollups) -> None:
    first = await leased(rollups, month(1))
    assert await rollups.lease(BY_SITE, month(1), "two", 60) is None
    assert await rollups.lease(BY_SITE, month(2), "two", 60) is not None
    assert await rollups.lease(AS_TABLE, month(1), "two", 60) is not None
    await rollups.release(first)
    second = await leased(rollups, month(1), "two")
    assert second.fence > first.fence
    with pytest.raises(LeaseLostError):
        await rollups.renew(first, 60)
    await rollups.release(first)
    await rollups.renew(second, 60)


async def test_a_lease_that_is_over_cannot_be_renewed_or_used(rollups: PgRollups, owner: Connection) -> None:
    lease = await leased(rollups, month(1), seconds=-1)
    with pytest.raises(LeaseLostError):
        await rollups.renew(lease, 60)
    with pytest.raises(LeaseLostError):
        await rollups.publish(lease, BY_SITE, await built(owner))
    assert await owner.fetchval("SELECT count(*) FROM broker.rollup_segment") == 0


async def test_a_published_file_is_fetched_in_pieces_and_the_version_before_stays_for_a_while(
    rollups: PgRollups, owner: Connection, dataset: Dataset
) -> None:
    data = bytes(range(256)) * 20_000
    lease = await leased(rollups, month(1))
    first = await rollups.publish(lease, BY_SITE, await built(owner, data))
    assert await owner.fetchval("SELECT count(*) FROM broker.rollup_chunk") == 3
    assert await rollups.fetch(first, first.files[0]) == data
    second = await rollups.publish(lease, BY_SITE, await built(owner, b"new"))
    assert await rollups.fetch(second, second.files[0]) == b"new"
    assert await rollups.fetch(first, first.files[0]) == data
    await rollups.sweep(dataset, 3600)
    assert await rollups.fetch(first, first.files[0]) == data
    await rollups.sweep(dataset, 0)
    with pytest.raises(LookupError):
        await rollups.fetch(first, first.files[0])
    assert await rollups.fetch(second, second.files[0]) == b"new"


async def test_a_stale_fence_publishes_nothing(rollups: PgRollups, owner: Connection) -> None:
    stale = await leased(rollups, month(1))
    await rollups.release(stale)
    current = await leased(rollups, month(1), "two")
    kept = await rollups.publish(current, BY_SITE, await built(owner, b"kept"))
    with pytest.raises(LeaseLostError):
        await rollups.publish(stale, BY_SITE, await built(owner, b"stale"))
    rows = await owner.fetch("SELECT id FROM broker.rollup_segment")
    assert [row["id"] for row in rows] == [kept.id]


async def test_whoever_looks_learns_of_a_version(rollups: PgRollups, owner: Connection) -> None:
    await rollups.publish(await leased(rollups, month(1)), BY_SITE, await built(owner))
    assert await owner.fetchval("SELECT generation FROM broker.rollup WHERE name = 'by_site'") == 1


async def test_a_build_older_than_collected_marks_is_refused(rollups: PgRollups, owner: Connection) -> None:
    lease, old = await leased(rollups, month(1)), await built(owner)
    await owner.execute("SELECT pg_current_xact_id()")
    await owner.execute("UPDATE broker.rollup_source SET collected = pg_snapshot_xmax(pg_current_snapshot())")
    with pytest.raises(LeaseLostError, match="collected"):
        await rollups.publish(lease, BY_SITE, old)
    await rollups.publish(lease, BY_SITE, await built(owner))


async def test_a_sweep_keeps_the_marks_that_a_build_under_way_needs(
    rollups: PgRollups, owner: Connection, dataset: Dataset
) -> None:
    lease, early = await leased(rollups, month(1)), await built(owner)
    await mark(owner, month(1))
    await rollups.sweep(dataset, 0)
    assert await marks(owner) == 1
    segment = await rollups.publish(lease, BY_SITE, early)
    await rollups.release(lease)
    await rollups.sweep(dataset, 0)
    assert await marks(owner) == 1, "the segment was read before the mark"
    again = await leased(rollups, month(1))
    await rollups.publish(again, BY_SITE, await built(owner))
    await rollups.release(again)
    await rollups.sweep(dataset, 0)
    assert await marks(owner) == 0
    assert await owner.fetchval("SELECT collected > '0' FROM broker.rollup_source")
    assert segment.version < again.fence


async def test_segments_that_never_change_do_not_keep_the_marks_of_others(
    rollups: PgRollups, owner: Connection, dataset: Dataset
) -> None:
    quiet = await leased(rollups, month(1))
    await rollups.publish(quiet, BY_SITE, await built(owner))
    await rollups.release(quiet)
    await mark(owner, month(2))
    busy = await leased(rollups, month(2))
    await rollups.publish(busy, BY_SITE, await built(owner))
    await rollups.release(busy)
    await rollups.sweep(dataset, 0)
    await rollups.sweep(dataset, 0)
    assert await marks(owner) == 0


async def test_a_mark_of_a_transaction_under_way_outlives_sweeps(
    rollups: PgRollups, owner: Connection, dataset: Dataset, dsn: str
) -> None:
    writer = await asyncpg.connect(dsn)
    try:
        transaction = writer.transaction()
        await transaction.start()
        await mark(writer, month(1))
        lease = await leased(rollups, month(1))
        await rollups.publish(lease, BY_SITE, await built(owner))
        await rollups.release(lease)
        await mark(owner, month(2))
        await rollups.sweep(dataset, 0)
        await transaction.commit()
        await rollups.sweep(dataset, 0)
    finally:
        await writer.close()
    assert await owner.fetchval("SELECT count(*) FROM broker.rollup_mark WHERE lo = $1", month(1).lo) == 1


async def test_a_sealed_segment_is_never_built_again_and_one_that_misses_changes_is_not_sealed(
    rollups: PgRollups, owner: Connection, dataset: Dataset
) -> None:
    for number in (1, 2):
        lease = await leased(rollups, month(number))
        await rollups.publish(lease, BY_SITE, await built(owner))
        await rollups.release(lease)
    late = await leased(rollups, month(1))
    await mark(owner, month(2))
    assert await rollups.seal(BY_SITE, Span(month(1).lo, month(2).hi)) == (month(1),)
    for attempt in (
        rollups.lease(BY_SITE, month(1), "two", 60),
        rollups.publish(late, BY_SITE, await built(owner)),
    ):
        with pytest.raises(BrokerError) as refused:
            await attempt
        assert refused.value.reason is ErrorReason.ROLLUP_STATE
    await rollups.release(late)
    await mark(owner, month(1))
    lease = await leased(rollups, month(2))
    await rollups.publish(lease, BY_SITE, await built(owner))
    await rollups.release(lease)
    await rollups.sweep(dataset, 0)
    assert await marks(owner) == 0, "a sealed segment needs none"


async def test_what_is_built_after_others_were_sealed_there_is_not_sealed(
    rollups: PgRollups, owner: Connection
) -> None:
    """Rows may have been deleted in between."""

    async def publish(rollup: Rollup, number: int) -> None:
        lease = await rollups.lease(rollup, month(number), "one", 60)
        assert lease is not None
        await rollups.publish(lease, rollup, await built(owner))
        await rollups.release(lease)

    await publish(BY_SITE, 1)
    assert await rollups.seal(BY_SITE, month(1)) == (month(1),)
    for number in (1, 2):
        await publish(AS_TABLE, number)
    await publish(BY_SITE, 2)
    assert await rollups.seal(BY_SITE, month(2)) == (month(2),)
    assert await rollups.seal(AS_TABLE, Span(month(1).lo, month(2).hi)) == (month(2),), "built before that"


async def test_what_has_left_the_retention_is_retired(
    owner: Connection, database: RollupDatabase, dataset: Dataset, rollups: PgRollups
) -> None:
    lease = await leased(rollups, month(1))
    segment = await rollups.publish(lease, BY_SITE, await built(owner))
    await rollups.sweep(dataset, 3600)
    assert await owner.fetchval("SELECT count(*) FROM broker.rollup_segment WHERE retire_time IS NULL") == 1
    short = replace(dataset, rollups={"by_site": replace(BY_SITE, retention=86_400.0)})
    await rollups.sweep(short, 3600)
    assert await owner.fetchval("SELECT count(*) FROM broker.rollup_segment WHERE retire_time IS NULL") == 0
    assert await rollups.fetch(segment, segment.files[0]) == b"file"


async def test_a_rollup_installed_for_another_definition_is_not_built(
    rollups: PgRollups, owner: Connection
) -> None:
    lease = await leased(rollups, month(1))
    await owner.execute("UPDATE broker.rollup SET definition = 'another' WHERE name = 'by_site'")
    with pytest.raises(LeaseLostError, match="definition"):
        await rollups.publish(lease, BY_SITE, await built(owner))
    with pytest.raises(BrokerError, match="rollup install"):
        await rollups.lease(BY_SITE, month(2), "one", 60)


async def test_what_is_not_installed_says_so(
    database: RollupDatabase, owner: Connection, dataset: Dataset
) -> None:
    await owner.execute("DROP SCHEMA broker CASCADE")
    rollups = PgRollups(database, ByHand(owner), {"visits": dataset}, SystemClock())
    assert (await rollups.status(dataset, BY_SITE)).state == "declared"
    with pytest.raises(BrokerError, match="rollup install"):
        await rollups.lease(BY_SITE, month(1), "one", 60)
    await rollups.drop(dataset, BY_SITE)
    external = replace(BY_SITE, storage=Storage.EXTERNAL, relation="public.sums")
    assert (await rollups.status(dataset, external)).state == "active"
