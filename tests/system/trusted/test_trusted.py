"""Rollups are not trusted blindly: broken files, a useless mirror and wrong segments change no answer for long."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from broker.domain.rollup import Segment, SegmentFile
from broker.ports.rollups import Built
from tests.support.eventually import eventually
from tests.system.trusted.place import LIVE, PER_KIND, RIGHT, ROLLUP, Place, rolled


def changed(path: Path) -> None:
    """Writes other bytes into the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"\xa5" * 64
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("damage", [changed, cut, Path.unlink])
async def test_a_local_file_that_is_damaged_is_never_served_and_fetched_again(
    place: Place, damage: Callable[[Path], None]
) -> None:
    async with place.serving() as asked:
        assert await rolled(asked) == RIGHT
        before = {path.name: path.read_bytes() for path in place.files()}
        assert before
        for path in place.files():
            damage(path)
        kind, counts = await asked()
        assert counts == RIGHT
        assert kind in (LIVE, ROLLUP)
        assert await rolled(asked) == RIGHT
        for path in place.files():
            assert path.read_bytes() == before[path.name]


async def test_a_file_that_was_damaged_while_the_broker_was_away_is_found_out_at_the_start(
    place: Place,
) -> None:
    async with place.serving() as asked:
        assert await rolled(asked) == RIGHT
    for path in place.files():
        changed(path)
    async with place.serving() as asked:
        assert await rolled(asked) == RIGHT
    assert "Traceback" not in (place.home / "serve.log").read_text()


async def test_a_mirror_that_is_taken_away_is_made_again(place: Place) -> None:
    async with place.serving() as asked:
        assert await rolled(asked) == RIGHT
        shutil.rmtree(place.mirror)
        assert (await asked())[1] == RIGHT
        assert await rolled(asked) == RIGHT


async def test_without_a_directory_for_the_mirror_answers_are_live(place: Place) -> None:
    place.mirror.write_text("in the way")
    async with place.serving() as asked:
        for _ in range(3):
            assert await asked() == (LIVE, RIGHT)
    assert "rollups.mirror_dir" in (place.home / "serve.log").read_text()
    assert "Traceback" not in (place.home / "serve.log").read_text()


def with_one_more(data: bytes, file: SegmentFile) -> tuple[SegmentFile, bytes]:
    """The file with one event too many in its first row."""
    reader = pa.ipc.open_file(pa.py_buffer(data))
    batch = reader.get_batch(0)
    position = batch.schema.get_field_index("events.n")
    column = batch.column(position)
    more = pc.add(column, pa.array([1] + [0] * (len(column) - 1), column.type))
    arrays = [more if i == position else batch.column(i) for i in range(batch.num_columns)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=batch.schema))
    wrong = bytes(sink.getvalue().to_pybytes())
    return replace(file, byte_count=len(wrong), sha256=hashlib.sha256(wrong).hexdigest()), wrong


async def publish_wrong(place: Place) -> Segment:
    """Publishes a version of the second month with one event too many, as of now."""
    async with place.store() as (store, dataset):
        rollup = dataset.rollups["by_kind"]
        partition = (await store.status(dataset, rollup)).partitions[1]
        segment = partition.segment
        assert segment is not None
        wrong = [with_one_more(await store.fetch(segment, file), file) for file in segment.files]
        owner = await asyncpg.connect(place.dsn)
        snapshot = await owner.fetchval("SELECT pg_current_snapshot()::text")
        as_of = await owner.fetchval("SELECT now()")
        await owner.close()
        lease = await store.lease(rollup, partition.span, "test", 60)
        assert lease is not None
        files, data = (tuple(column) for column in zip(*wrong, strict=True))
        return await store.publish(lease, rollup, Built(snapshot, as_of, segment.row_count, files, data))


async def test_a_wrong_segment_is_found_out_and_answers_go_live(
    place: Place, record_property: Callable[[str, object], None]
) -> None:
    await publish_wrong(place)
    async with place.serving({"rollups.verify_share": 1}) as asked:
        counts = await rolled(asked)
        began = time.monotonic()
        assert sum(counts.values()) == 3 * PER_KIND + 1, "the wrong segment is in use"

        async def right() -> bool:
            return (await asked()) == (LIVE, RIGHT)

        await eventually(right, "answers are right again")
        record_property("detection_seconds", round(time.monotonic() - began, 3))
        status = await place.status()
        assert status.state == "quarantined"
        assert "1 of 3 groups" in status.message
    log = (place.home / "serve.log").read_text()
    assert "answers of rollups differ from the source; quarantined by_kind" in log
    assert "Traceback" not in log


async def test_a_right_rollup_is_noted_as_verified(place: Place) -> None:
    async with place.serving({"rollups.verify_share": 1}) as asked:
        assert await rolled(asked) == RIGHT

        async def noted() -> bool:
            return (await place.status()).verify_time is not None

        await eventually(noted, "it is noted")
        assert (await place.status()).state == "active"
