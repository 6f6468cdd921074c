"""The faults: who is killed, paused or cut off next, drawn from a seed."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

import asyncpg

from broker.demo.embedded import EmbeddedPostgres
from tests.bench.parts.crash_fleet import Fleet, Supervised
from tests.support.processes import kill_same

DECK = (
    ("worker",) * 6 + ("child",) * 2 + ("broker",) * 1 + ("postmaster",) * 1 + ("pause",) * 1 + ("cut",) * 1
)
"""Dealt in a new order again and again, so that the shares hold in short runs too."""
KILLS = ("worker", "child", "broker", "postmaster")
BETWEEN = (0.1, 0.45)
"""Seconds from one fault to the next."""
READY_SHARE = 0.85
AT_WORK = 1.5
"""Seconds for which a worker has worked, at most, before it may be killed."""
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'querybroker%'"


class Faults:
    """Causes faults, one after the other; ``count`` says how many of each there were."""

    def __init__(
        self, fleet: Fleet, server: EmbeddedPostgres, folder: Path, lease: float, rng: Random
    ) -> None:
        self._fleet = fleet
        self._server = server
        self._folder = folder
        self._lease = lease
        self._rng = rng
        self._paused: set[Supervised] = set()
        self._pauses: set[asyncio.Task[None]] = set()
        self.count: Counter[str] = Counter()

    @property
    def kills(self) -> int:
        """Processes that got `kill -9`."""
        return sum(self.count[name] for name in KILLS)

    async def cause(self, kills: int) -> None:
        """Faults until so many processes have been killed; pauses are over when it returns."""
        deck: list[str] = []
        while self.kills < kills:
            if not deck:
                deck = self._rng.sample(DECK, len(DECK))
            await asyncio.sleep(self._rng.uniform(*BETWEEN))
            name = deck.pop()
            self.count[name] += await getattr(self, f"_{name}")()
        await asyncio.gather(*self._pauses)

    async def _worker(self) -> int:
        """Most often one that has been at work for a while: those that begin again have nothing to lose."""
        if self._rng.random() > READY_SHARE:
            return self._kill(self._rng.choice(self._fleet.workers))
        before = time.monotonic() - self._rng.uniform(0.0, AT_WORK)
        ready = [worker for worker in self._fleet.workers if worker.worker_id and worker.since < before]
        return self._kill(self._rng.choice(ready)) if ready else 0

    async def _broker(self) -> int:
        return self._kill(self._rng.choice(self._fleet.brokers))

    def _kill(self, target: Supervised) -> int:
        process = target.process
        if process is None or process.returncode is not None or target in self._paused:
            return 0
        process.kill()
        return 1

    async def _child(self) -> int:
        """A child process of some attempt, if there is one now; workers write down who they are."""
        for mark in self._rng.sample(found := sorted((self._folder / "children").iterdir()), len(found)):
            with suppress(FileNotFoundError):  # it has just ended
                began = mark.read_text()
                mark.unlink()
                if kill_same(int(mark.name), began):
                    return 1
        return 0

    async def _postmaster(self) -> int:
        await asyncio.to_thread(self._server.kill9)
        await asyncio.sleep(self._rng.uniform(0.0, 0.5))
        await asyncio.to_thread(self._server.start)
        return 1

    async def _pause(self) -> int:
        """A worker stands still for longer than its lease, while everything else goes on."""
        target = self._rng.choice(self._fleet.workers)
        process = target.process
        if process is None or process.returncode is not None or target in self._paused:
            return 0
        process.send_signal(signal.SIGSTOP)
        self._paused.add(target)
        task = asyncio.create_task(self._resume(target, process, self._rng.uniform(1.2, 2.0) * self._lease))
        self._pauses.add(task)
        return 1

    async def _resume(self, target: Supervised, process: asyncio.subprocess.Process, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            self._paused.discard(target)
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)

    async def _cut(self) -> int:
        """Every second connection of brokers and workers, the ones of their leases included."""
        try:
            connection = await asyncpg.connect(self._server.dsn(), timeout=5.0)
        except (OSError, asyncpg.PostgresError):
            return 0
        try:
            return len(await connection.fetch(f"{CUT} AND pid % 2 = {self._rng.randrange(2)}"))
        finally:
            await connection.close()
