"""Processes that share a Valkey, each with its own memory, in one loop."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.app.cache import Cache, tiers
from broker.config.settings import CacheSettings
from broker.domain.answer import AnswerKind, AnswerPart, AnswerStatus, Exactness, PartSource, Table
from broker.domain.held import Held, Reach
from broker.domain.rollup import Span
from broker.domain.values import Column, DataType, ResultFormat
from broker.runtime.clock import SystemClock
from broker.telemetry.instruments import Telemetry
from tests.support.eventually import eventually
from tests.support.valkey import Valkey, valkey_server

Open = Callable[..., Awaitable[Cache]]
PREFIXES = itertools.count()
COLUMN = Column("flights", DataType.INT64)


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Valkey]:
    """A server that tests share, each under its own prefix; nobody stops it for good."""
    with valkey_server() as server:
        yield server


@pytest.fixture
def settings(shared_valkey: Valkey) -> CacheSettings:
    """A cache of one test; its timeout is for slow machines."""
    return CacheSettings(10_000_000, shared_valkey.url, timeout=2.0, prefix=f"test{next(PREFIXES)}")


@pytest.fixture
async def process(settings: CacheSettings) -> AsyncIterator[Open]:
    """Opens the cache of one more process."""
    async with AsyncExitStack() as stack:

        async def start(**changes: object) -> Cache:
            given = replace(settings, **changes)  # type: ignore[arg-type] # each test knows its own
            chance = random.Random(next(PREFIXES))
            cache = await stack.enter_async_context(
                tiers(given, 86_400.0, SystemClock(), chance, Telemetry.off())
            )
            await up(cache)
            return cache

        yield start


async def up(cache: Cache, *, really: bool = True) -> None:
    """Waits until the shared tier is used, or not used."""

    async def holds() -> bool:
        return cache.answers.states()[-1].available is really

    await eventually(holds, f"the shared tier is {'up' if really else 'down'}")


def answer(
    key: str = "k" * 32,
    *,
    age: float = 10.0,
    dataset: str = "flights",
    rollups: tuple[str, ...] = (),
    span: Span | None = None,
    table: bytes = b"\x00\xfftable",
) -> Held:
    """An answer that is so many seconds old."""
    as_of = SystemClock().now() - timedelta(seconds=age)
    part = AnswerPart(PartSource.LIVE, "primary", as_of, row_count=3, share=1.0)
    status = AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, as_of, parts=(part,))
    reach = Reach(dataset, rollups, {} if span is None else {"departure": span})
    return Held(key, Table((COLUMN,), 3, ResultFormat.COLUMNS, table), status, reach, "moment", 0.25)


async def found(cache: Cache, key: str = "k" * 32) -> Held:
    """The answer under a key, once it is there."""
    seen: list[Held] = []

    async def holds() -> bool:
        held = await cache.answers.find(key, 5.0)
        seen.extend([held] if held is not None else [])
        return held is not None

    await eventually(holds, "the answer is held")
    return seen[-1]


async def gone(cache: Cache, key: str = "k" * 32) -> None:
    """Waits until a process does not hold an answer."""

    async def holds() -> bool:
        return cache.answers.near(key) is None

    await eventually(holds, "the answer is removed")
