"""Work that the admission stops is stopped in the database too, and its connection goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import pytest

from broker.adapters.pg_store import PgStore
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Block
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import AdmissionRequest, Decision, Killed, Pressure, Signal
from broker.runtime.admission import Admission
from broker.runtime.clock import SystemClock
from broker.telemetry.instruments import Telemetry
from tests.integration.store.conftest import Watcher, in_time
from tests.integration.store.slow_flights import LARGE, SLEEP, count
from tests.support.eventually import eventually

POOL = PoolName.DASHBOARD


class Killing(Scheduler):
    """The real core; any news makes it kill the request ``1``."""

    def signal(self, backend: str, news: Signal | Pressure, now: float) -> tuple[Decision, ...]:
        return (Killed("1", POOL, 0.01, 5.0),)


def killing() -> tuple[Admission, Callable[[], None]]:
    """An admission, and what makes it kill."""
    core = Killing({POOL: PoolLimits(1, 10, 1, 1)}, seed=1)
    admission = Admission(core, SystemClock(), Telemetry.off())
    return admission, lambda: admission.signal("primary", Signal.OUT_OF_MEMORY)


def request() -> AdmissionRequest:
    return AdmissionRequest("1", "a", POOL, SystemClock().monotonic() + 60)


async def test_a_statement_is_stopped(store: PgStore, watcher: Watcher) -> None:
    admission, kill = killing()

    async def work() -> None:
        async with admission.permit(request()), store.snapshot(POOL, in_time()) as snapshot:
            await snapshot.read(SLEEP)

    task = asyncio.create_task(work())
    await eventually(watcher.something_sleeps, "the statement runs")
    kill()
    with pytest.raises(BrokerError, match="others wait for the seat") as caught:
        await task
    assert caught.value.reason is ErrorReason.DEADLINE_EXCEEDED
    assert await watcher.nothing_runs()
    assert admission.loads()[0].seats_used == 0
    async with store.snapshot(POOL, in_time()) as snapshot:
        assert await count(snapshot) == 50_000
    admission.close()


async def test_a_stream_with_a_slow_reader_is_stopped(store: PgStore, watcher: Watcher) -> None:
    admission, kill = killing()
    reading = asyncio.Event()

    async def stream() -> AsyncGenerator[Block, None]:
        async with (
            admission.permit(request()),
            store.snapshot(POOL, in_time()) as snapshot,
            aclosing(snapshot.stream(LARGE)) as blocks,
        ):
            async for block in blocks:
                yield block

    async def work() -> None:
        async with aclosing(stream()) as blocks:
            async for _ in blocks:
                reading.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await reading.wait()
    kill()
    with pytest.raises(BrokerError, match="others wait for the seat"):
        await task
    await eventually(watcher.nothing_runs, "the statement ends")
    assert admission.loads()[0].seats_used == 0
    admission.close()
