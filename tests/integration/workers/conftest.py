"""Real worker processes, on both event loops."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from broker.aggregation.executor import WorkerPools
from broker.domain.deadline import Deadline
from broker.domain.pool import PoolLimits, PoolName
from broker.telemetry.instruments import Telemetry
from tests.support.eventually import eventually

POOL = PoolName.DASHBOARD
WORKERS = 2


class SystemClock:
    """The system's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Noting(Telemetry):
    """Telemetry that remembers why workers were replaced."""

    def __init__(self) -> None:
        super().__init__(NoOpTracerProvider(), NoOpMeterProvider())
        self.replaced: list[tuple[str, str]] = []

    def worker_restart(self, pool: str, reason: str) -> None:
        self.replaced.append((pool, reason))


@dataclass(frozen=True, slots=True)
class Crew:
    """Worker pools, and what tests ask of them."""

    pools: WorkerPools
    telemetry: Noting

    @staticmethod
    def deadline(seconds: float) -> Deadline:
        return Deadline.after(seconds, time.monotonic())

    async def call(self, function: str, *arguments: Any, seconds: float = 60.0) -> Any:
        return await self.pools.call(POOL, function, arguments, self.deadline(seconds))

    def start(self, function: str, *arguments: Any, seconds: float = 60.0) -> asyncio.Task[Any]:
        return asyncio.create_task(self.call(function, *arguments, seconds=seconds))

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression inside of a worker."""
        return await self.call("builtins:eval", expression)

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.telemetry.replaced]

    @staticmethod
    async def until(holds: Callable[[], bool], what: str) -> None:
        async def asked() -> bool:
            return holds()

        await eventually(asked, what)

    async def complete(self) -> None:
        """Waits until every worker is there and idle."""
        await self.until(
            lambda: (stats := self.pools.stats()[POOL]).workers == WORKERS and stats.tasks == 0,
            "a full, idle pool",
        )


StartCrew = Callable[..., Awaitable[Crew]]


@pytest.fixture
async def start_crew() -> AsyncIterator[StartCrew]:
    """Starts worker pools, `await start_crew(memory=...)`, which end with the test."""
    started: list[WorkerPools] = []

    async def start(*, memory: int = 1 << 30, names: Sequence[PoolName] = (POOL,)) -> Crew:
        telemetry = Noting()
        limits = {name: PoolLimits(8, 8, 2, WORKERS, worker_memory=memory) for name in names}
        started.append(WorkerPools(limits, SystemClock(), telemetry))
        await started[-1].start()
        return Crew(started[-1], telemetry)

    yield start
    for pools in started:
        await pools.close()


@pytest.fixture
async def crew(start_crew: StartCrew) -> Crew:
    """Two workers of one pool."""
    return await start_crew()


class Gate:
    """A named pipe: a worker that reads it is stuck there until the test opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._end = -1

    async def reached(self) -> None:
        """Waits until a reader is there: opening for writing waits for one."""
        self._end = await asyncio.to_thread(os.open, self.path, os.O_WRONLY)

    def open(self, data: bytes = b"passed") -> None:
        """Lets the reader pass."""
        os.write(self._end, data)
        self.close()

    def close(self) -> None:
        if self._end >= 0:
            os.close(self._end)
            self._end = -1


READ = "pathlib:Path.read_bytes"


@pytest.fixture
def gates(tmp_path: Path) -> Callable[[], Gate]:
    """Makes gates."""
    numbers = iter(range(1_000))
    return lambda: Gate(tmp_path / f"gate-{next(numbers)}")


def gone(pids: Sequence[int]) -> bool:
    """Whether none of the processes is alive."""
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
    return True
