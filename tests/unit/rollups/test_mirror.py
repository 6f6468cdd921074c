"""Segments come into the mirror once, verified, and whatever goes wrong is told to whoever waits."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import LocalFile
from broker.domain.query import Grain
from broker.domain.rollup import Segment
from broker.rollups import mirror_disk
from tests.support.segments import BY_CARRIER, FakeSegments, HandClock
from tests.unit.rollups.conftest import Opened


def contents(files: tuple[LocalFile, ...] | None) -> list[bytes]:
    assert files is not None
    return [Path(file.path).read_bytes() for file in files]


def stored(store: FakeSegments, segment: Segment) -> list[bytes]:
    return [store.data[segment.id, file.grain] for file in segment.files]


def damage_file(file: LocalFile, how: str) -> None:
    path = Path(file.path)
    data = path.read_bytes()
    path.write_bytes({"changed": b"x" + data[1:], "cut": data[:-1], "longer": data + b"x"}[how])


def is_there(file: LocalFile) -> bool:
    return Path(file.path).exists()


async def test_a_segment_that_is_fetched_is_handed_out_as_it_was_stored(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline]
) -> None:
    mirror, segment = await opened(store), store.segment(7)
    rollup = replace(BY_CARRIER, zone="Europe/Berlin")
    assert mirror.local(rollup, segment) is None
    await mirror.ensure(rollup, [segment], soon())
    files = mirror.local(rollup, segment)
    assert contents(files) == stored(store, segment)
    assert files is not None
    assert [(f.grain, f.zone, f.span) for f in files] == [
        (Grain.FIFTEEN_MINUTES, "Europe/Berlin", segment.span),
        (Grain.DAY, "Europe/Berlin", segment.span),
    ]
    assert [f.sha256 for f in files] == [f.sha256 for f in segment.files]
    assert mirror.byte_count == 2000


async def test_a_segment_without_rows_needs_no_files(opened: Opened, store: FakeSegments) -> None:
    assert (await opened(store)).local(BY_CARRIER, store.segment(1, files=0)) == ()


async def test_the_same_id_of_another_time_is_another_segment(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline]
) -> None:
    mirror, segment = await opened(store), store.segment(7)
    await mirror.ensure(BY_CARRIER, [segment], soon())
    restored = replace(segment, as_of=segment.as_of + timedelta(microseconds=1))
    assert mirror.local(BY_CARRIER, restored) is None


async def test_each_file_is_fetched_once_however_many_wait(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline]
) -> None:
    mirror, segment = await opened(store), store.segment(1, files=1)
    store.close()
    waiting = [asyncio.create_task(mirror.ensure(BY_CARRIER, [segment], soon())) for _ in range(3)]
    await store.arrived()
    mirror.want(BY_CARRIER, [segment])
    waiting[0].cancel()
    store.open()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, type(None), type(None)]
    assert store.fetched == {1: 1}
    assert contents(mirror.local(BY_CARRIER, segment)) == stored(store, segment)


async def test_no_more_segments_are_fetched_at_once_than_allowed(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline]
) -> None:
    mirror = await opened(store, parallel=2)
    segments = [store.segment(n, files=1) for n in range(5)]
    store.close()
    waiting = asyncio.create_task(mirror.ensure(BY_CARRIER, segments, soon()))
    await store.arrived(2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert store.fetched.total() == 2
    store.open()
    await waiting
    assert store.fetched.total() == 5


async def test_whoever_has_no_time_left_is_told_and_the_fetch_goes_on(
    opened: Opened, store: FakeSegments, clock: HandClock, soon: Callable[[], Deadline]
) -> None:
    mirror, segment = await opened(store), store.segment(1)
    store.close()
    with pytest.raises(BrokerError) as raised:
        await mirror.ensure(BY_CARRIER, [segment], Deadline(clock.monotonic()))
    assert raised.value.reason is ErrorReason.DEADLINE_EXCEEDED
    store.open()
    await mirror.ensure(BY_CARRIER, [segment], soon())
    assert store.fetched == {1: 2}


async def test_what_another_process_has_fetched_is_verified_and_used(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline]
) -> None:
    segment = store.segment(1)
    await (await opened(store)).ensure(BY_CARRIER, [segment], soon())
    other = await opened(store)
    await other.ensure(BY_CARRIER, [segment], soon())
    assert store.fetched == {1: 2}
    assert contents(other.local(BY_CARRIER, segment)) == stored(store, segment)


async def test_databases_that_share_a_directory_do_not_share_files(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline]
) -> None:
    segment, other = store.segment(1), FakeSegments(seed=2)
    twin = other.segment(1)
    mine, theirs = await opened(store), await opened(other, scope="other")
    await mine.ensure(BY_CARRIER, [segment], soon())
    await theirs.ensure(BY_CARRIER, [twin], soon())
    assert contents(mine.local(BY_CARRIER, segment)) == stored(store, segment)
    assert contents(theirs.local(BY_CARRIER, twin)) == stored(other, twin)


@pytest.mark.parametrize("damage", ["changed", "cut", "longer"])
async def test_a_file_that_was_damaged_is_fetched_again_at_the_next_start(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline], damage: str
) -> None:
    mirror, segment = await opened(store), store.segment(1)
    await mirror.ensure(BY_CARRIER, [segment], soon())
    files = mirror.local(BY_CARRIER, segment)
    assert files is not None
    damage_file(files[0], damage)
    next_start = await opened(store)
    await next_start.ensure(BY_CARRIER, [segment], soon())
    assert store.fetched == {1: 3}
    assert contents(next_start.local(BY_CARRIER, segment)) == stored(store, segment)


async def test_a_file_that_a_worker_cannot_read_is_fetched_again(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline]
) -> None:
    mirror, segment = await opened(store), store.segment(1)
    await mirror.ensure(BY_CARRIER, [segment], soon())
    files = mirror.local(BY_CARRIER, segment)
    assert files is not None
    damage_file(files[1], "cut")
    mirror.forget(files[1].path)
    assert mirror.local(BY_CARRIER, segment) is None
    assert not is_there(files[1])
    await mirror.ensure(BY_CARRIER, [segment], soon())
    assert contents(mirror.local(BY_CARRIER, segment)) == stored(store, segment)
    assert store.fetched == {1: 3}, "only the file that was lost"
    mirror.forget("/not/one/of/its/files")


async def test_wrong_bytes_are_asked_for_again_and_never_stored(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline], tmp_path: Path
) -> None:
    mirror = await opened(store)
    once, always = store.segment(1, files=1), store.segment(2, files=1)
    store.wrong[1], store.wrong[2] = 1, 100
    await mirror.ensure(BY_CARRIER, [once], soon())
    assert contents(mirror.local(BY_CARRIER, once)) == stored(store, once)
    with pytest.raises(BrokerError, match="build the partition again") as raised:
        await mirror.ensure(BY_CARRIER, [always], soon())
    assert raised.value.reason is ErrorReason.STORE_REJECTED
    assert mirror.local(BY_CARRIER, always) is None
    assert len(list((tmp_path / "mirror").glob("*/*"))) == 1


async def test_a_version_that_is_gone_is_a_lookup_error(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline]
) -> None:
    mirror, segment = await opened(store), store.segment(1)
    store.failing[1] = LookupError("replaced")
    for _ in range(2):
        with pytest.raises(LookupError, match="replaced"):
            await mirror.ensure(BY_CARRIER, [segment], soon())
    assert store.fetched == {1: 1}


async def test_an_error_that_nobody_foresaw_is_logged_and_means_live_answers(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline], caplog: pytest.LogCaptureFixture
) -> None:
    mirror, segment = await opened(store), store.segment(1)
    store.failing[1] = ZeroDivisionError()
    for _ in range(2):
        with pytest.raises(BrokerError, match="the log says why"):
            await mirror.ensure(BY_CARRIER, [segment], soon())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].exc_info is not None


async def test_what_has_failed_is_not_wanted_again_at_once(
    opened: Opened, store: FakeSegments, clock: HandClock, soon: Callable[[], Deadline]
) -> None:
    mirror, segment = await opened(store, backoff=5.0), store.segment(1, files=1)
    store.failing[1] = BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")
    with pytest.raises(BrokerError, match="away"):
        await mirror.ensure(BY_CARRIER, [segment], soon())
    mirror.want(BY_CARRIER, [segment])
    del store.failing[1]
    with pytest.raises(BrokerError, match="away") as again:
        await mirror.ensure(BY_CARRIER, [store.segment(2), segment], soon())
    assert again.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert store.fetched == {1: 1}
    clock.seconds += 5.0
    mirror.want(BY_CARRIER, [segment])
    await mirror.ensure(BY_CARRIER, [segment], soon())
    assert store.fetched[1] == 2


async def test_a_directory_that_cannot_be_used_is_told_and_tried_again(
    opened: Opened,
    store: FakeSegments,
    clock: HandClock,
    soon: Callable[[], Deadline],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "mirror").write_text("a file where the directory should be")
    mirror, segment = await opened(store, backoff=5.0), store.segment(1)
    with pytest.raises(BrokerError, match=r"set rollups\.mirror_dir to another directory") as raised:
        await mirror.ensure(BY_CARRIER, [segment], soon())
    assert raised.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert mirror.problem
    assert next(r.levelname for r in caplog.records if "mirror_dir" in r.message) == "ERROR"
    assert store.fetched.total() == 0, "nothing is fetched that cannot be stored"
    (tmp_path / "mirror").unlink()
    clock.seconds += 5.0
    await mirror.ensure(BY_CARRIER, [segment], soon())
    assert contents(mirror.local(BY_CARRIER, segment)) == stored(store, segment)
    assert mirror.problem == ""


async def test_a_full_disk_is_told_and_leaves_nothing_behind(
    opened: Opened,
    store: FakeSegments,
    clock: HandClock,
    soon: Callable[[], Deadline],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: str, data: bytes, at: float) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    mirror, segment = await opened(store, backoff=5.0), store.segment(1)
    with monkeypatch.context() as patched:
        patched.setattr(mirror_disk, "write", full)
        with pytest.raises(BrokerError, match=r"No space left on device.*make room on its disk"):
            await mirror.ensure(BY_CARRIER, [segment], soon())
    assert mirror.local(BY_CARRIER, segment) is None
    clock.seconds += 5.0
    await mirror.ensure(BY_CARRIER, [segment], soon())
    assert contents(mirror.local(BY_CARRIER, segment)) == stored(store, segment)


async def test_closing_ends_what_is_under_way(opened: Opened, store: FakeSegments) -> None:
    mirror, segment = await opened(store), store.segment(1)
    store.close()
    mirror.want(BY_CARRIER, [segment])
    await store.arrived()
    await mirror.close()
    assert mirror.local(BY_CARRIER, segment) is None
