"""What is current comes first, what is used stays, what was replaced goes, and there is never more than may be."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.rollup import Segment
from broker.rollups.mirror import Mirror
from broker.rollups.mirror_files import Found, Stamp
from broker.rollups.mirror_hydrate import Progress
from broker.rollups.mirror_room import Current, Leaving, choose
from tests.support.segments import BY_CARRIER, FakeSegments, HandClock, status_of
from tests.unit.rollups.conftest import Opened


def here(mirror: Mirror, *segments: Segment) -> list[int]:
    """Which segments the mirror has; asking is a use."""
    return [segment.id for segment in segments if mirror.local(BY_CARRIER, segment) is not None]


def on_disk(root: Path) -> set[int]:
    return {int(path.name.split(".")[0]) for path in root.glob("mirror/*/*.arrow")}


async def test_what_was_not_used_for_longest_makes_room(
    opened: Opened, store: FakeSegments, clock: HandClock, soon: Callable[[], Deadline], tmp_path: Path
) -> None:
    mirror = await opened(store, byte_limit=6000, keep=30.0)
    segments = [store.segment(n) for n in range(4)]
    for segment in segments[:3]:
        await mirror.ensure(BY_CARRIER, [segment], soon())
        clock.seconds += 1
    clock.seconds += 31
    assert here(mirror, segments[0]) == [0]
    clock.seconds += 31
    await mirror.ensure(BY_CARRIER, [segments[3]], soon())
    assert here(mirror, *segments) == [0, 2, 3]
    assert on_disk(tmp_path) == {0, 2, 3}
    assert mirror.byte_count == 6000


async def test_what_was_handed_out_lately_stays_even_if_there_is_no_room(
    opened: Opened, store: FakeSegments, clock: HandClock, soon: Callable[[], Deadline]
) -> None:
    mirror = await opened(store, byte_limit=4000, keep=30.0, backoff=5.0)
    first, second, third = (store.segment(n) for n in range(3))
    await mirror.ensure(BY_CARRIER, [first, second], soon())
    clock.seconds += 29
    assert here(mirror, first) == [0]
    clock.seconds += 29
    await mirror.ensure(BY_CARRIER, [third], soon())
    assert here(mirror, first, second, third) == [0, 2]
    with pytest.raises(BrokerError, match=r"raise rollups\.mirror_size") as raised:
        await mirror.ensure(BY_CARRIER, [second], soon())
    assert raised.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert here(mirror, first, third) == [0, 2]


async def test_what_another_process_uses_stays(
    opened: Opened, store: FakeSegments, clock: HandClock, soon: Callable[[], Deadline]
) -> None:
    mine, theirs = [await opened(store, byte_limit=4000, keep=30.0) for _ in range(2)]
    first, second, third = (store.segment(n) for n in range(3))
    await mine.ensure(BY_CARRIER, [first, second], soon())
    await theirs.ensure(BY_CARRIER, [first], soon())
    clock.seconds += 60
    assert here(theirs, first) == [0]
    await theirs.tidy()
    clock.seconds += 10
    await mine.ensure(BY_CARRIER, [third], soon())
    assert here(mine, first, second, third) == [0, 2]


async def test_what_another_process_removed_or_changed_is_handed_out_no_more(
    opened: Opened, store: FakeSegments, soon: Callable[[], Deadline]
) -> None:
    mirror = await opened(store)
    removed, changed, left = (store.segment(n) for n in range(3))
    await mirror.ensure(BY_CARRIER, [removed, changed, left], soon())
    (gone, _), (written, _) = (mirror.local(BY_CARRIER, s) or () for s in (removed, changed))
    os.unlink(gone.path)  # noqa: PTH108 - as the other process does
    os.utime(written.path, ns=(1, 1))
    await mirror.tidy()
    assert here(mirror, removed, changed, left) == [2]


async def test_the_newest_come_first_and_progress_is_told(opened: Opened, store: FakeSegments) -> None:
    mirror = await opened(store, parallel=1)
    segments = [store.segment(n, files=1) for n in (3, 1, 2)]
    seen: list[Progress] = []
    done = await mirror.hydrate([status_of(*segments)], seen.append)
    assert store.order == [3, 2, 1]
    assert [progress.done for progress in seen] == [1, 2, 3]
    assert seen[0] == Progress(1, 3, 1000, 3000)
    assert done == seen[-1] == Progress(3, 3, 3000, 3000)


async def test_what_is_fetched_ahead_pushes_nothing_out_but_its_own_older_version(
    opened: Opened, store: FakeSegments, clock: HandClock
) -> None:
    mirror = await opened(store, byte_limit=4000, parallel=1)
    old, other, third = store.segment(1, day=9), store.segment(2, day=8), store.segment(3, day=7)
    assert (await mirror.hydrate([status_of(old, other, third)])).skipped == 1
    assert here(mirror, old, other, third) == [1, 2]
    clock.seconds += 100
    new = store.segment(4, day=9, version=2)
    await mirror.hydrate([status_of(new, other, third)])
    assert here(mirror, old, new, other, third) == [4, 2]
    assert mirror.byte_count == 4000


async def test_replaced_versions_go_when_nobody_uses_them(
    opened: Opened, store: FakeSegments, clock: HandClock, tmp_path: Path
) -> None:
    mirror = await opened(store, keep=30.0)
    old, new = store.segment(1, day=9), store.segment(2, day=9, version=2)
    await mirror.hydrate([status_of(old)])
    await mirror.hydrate([status_of(new)])
    assert on_disk(tmp_path) == {1, 2}, "an answer under way may still read it"
    clock.seconds += 31
    await mirror.hydrate([status_of(new)])
    assert on_disk(tmp_path) == {2}
    assert here(mirror, old, new) == [2]


async def test_files_of_rollups_that_are_not_known_here_are_left_alone(
    opened: Opened, store: FakeSegments, clock: HandClock, soon: Callable[[], Deadline], tmp_path: Path
) -> None:
    mirror = await opened(store)
    await mirror.ensure(replace(BY_CARRIER, name="of_a_newer_broker"), [store.segment(1)], soon())
    clock.seconds += 1000
    await mirror.hydrate([status_of(store.segment(2))])
    assert on_disk(tmp_path) == {1, 2}


async def test_a_segment_that_fails_leaves_the_others_to_be_had(
    opened: Opened, store: FakeSegments, clock: HandClock
) -> None:
    mirror = await opened(store, backoff=5.0)
    gone, away, bug, fine = segments = [store.segment(n) for n in range(4)]
    store.failing = {
        0: LookupError(),
        1: BrokerError(ErrorReason.STORE_UNAVAILABLE, ""),
        2: ZeroDivisionError(),
    }
    assert (await mirror.hydrate([status_of(*segments)])).skipped == 3
    assert here(mirror, gone, away, bug, fine) == [3]
    store.failing.clear()
    clock.seconds += 5
    assert (await mirror.hydrate([status_of(*segments)])).skipped == 0
    assert store.fetched[3] == 2, "it was not fetched again"


def found(name: str, size: int, used: float, folder: str = "a") -> Found:
    return Found(f"/mirror/{folder}/{name}", Stamp(1, size, 1), used)


@pytest.mark.parametrize(
    ("limit", "leaving"),
    [
        (100, Leaving()),
        (60, Leaving()),
        (59, Leaving(evicted=("/mirror/a/1",))),
        (30, Leaving(evicted=("/mirror/a/1", "/mirror/a/2"))),
        (0, Leaving(evicted=("/mirror/a/1", "/mirror/a/2"))),
    ],
)
def test_as_few_files_go_as_possible_and_none_that_was_used_lately(limit: int, leaving: Leaving) -> None:
    files = [found("3", 30, 30.0), found("1", 10, 10.0), found("2", 20, 20.0)]
    assert choose(files, limit, 25.0, Current()) == leaving


def test_stale_files_go_first_whatever_room_there_is() -> None:
    files = [found("1", 10, 1.0, "other"), found("2", 10, 2.0), found("3", 10, 3.0), found("4", 10, 9.0)]
    current = Current(frozenset({"a"}), frozenset({"/mirror/a/2"}))
    assert choose(files, 30, 5.0, current) == Leaving(stale=("/mirror/a/3",))
    assert choose(files, 20, 5.0, current) == Leaving(("/mirror/a/3",), ("/mirror/other/1",))
