"""Mirrors on the directory of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from broker.domain.deadline import Deadline
from broker.domain.rollup import Segment
from broker.rollups.mirror import Mirror
from broker.rollups.mirror_disk import MirrorOptions
from broker.telemetry.instruments import Telemetry
from tests.support.segments import FakeSegments, HandClock
from tests.unit.rollups.local_files import FACTS, FIRST, SECOND, World, segment, world_of


class Opened(Protocol):
    """Makes an open mirror on the test's directory, as another process would have it."""

    async def __call__(self, store: FakeSegments, **options: Any) -> Mirror: ...


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store() -> FakeSegments:
    return FakeSegments()


@pytest.fixture
async def opened(tmp_path: Path, clock: HandClock) -> AsyncIterator[Opened]:
    async with AsyncExitStack() as stack:

        async def make(store: FakeSegments, **options: Any) -> Mirror:
            given = replace(MirrorOptions(tmp_path / "mirror", scope="db", upkeep=3600), **options)
            mirror = Mirror(given, store, clock, Telemetry.off())
            await mirror.open()
            stack.push_async_callback(mirror.close)
            return mirror

        yield make


@pytest.fixture
def soon(clock: HandClock) -> Callable[[], Deadline]:
    """A deadline that is far away."""
    return lambda: Deadline.after(60, clock.monotonic())


@pytest.fixture
async def world(opened: Opened, store: FakeSegments, clock: HandClock) -> World:
    return world_of(await opened(store), clock)


@pytest.fixture
def old(store: FakeSegments, world: World) -> Segment:
    return segment(store, 1, FIRST, FACTS, world.ago(600))


@pytest.fixture
def new(store: FakeSegments, world: World) -> Segment:
    return segment(store, 2, SECOND, FACTS, world.ago(60))
