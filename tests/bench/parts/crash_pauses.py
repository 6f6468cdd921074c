"""Workers that stand still for longer than their lease and go on: what they write then, how soon they end, how soon
others have begun their jobs again."""

from __future__ import annotations

import asyncio
import signal
import time
from random import Random

from tests.bench.parts.crash_fleet import Fleet, Supervised
from tests.support.pg import Connection
from tests.support.processes import ended

WORKERS = 8
STEADY = 2
"""Workers that never stand still: somebody has to take over."""
AT_WORK = (0.2, 0.8)
"""Seconds for which a worker works before it stands still."""
LEASES = (1.2, 2.0)
PATIENCE = 20.0
RESTARTS = """
SELECT lost.worker_id, extract(epoch FROM next.start_time)::float8 AS at
FROM broker.job_history lost JOIN broker.job_history next ON next.job_id = lost.job_id AND next.fence = lost.fence + 1
WHERE lost.outcome = 'lost' AND lost.fence = 1
"""


class Pauses:
    """Causes pauses; ``exits`` has the seconds from the end of each to the end of its process.

    One that had lost its lease before goes on under a new identity, since it held nothing when it stood still:
    ``leaseless`` counts those.
    """

    def __init__(self, fleet: Fleet, lease: float, rng: Random) -> None:
        self._fleet = fleet
        self._lease = lease
        self._rng = rng
        self._left = 0
        self._began: dict[str, float] = {}
        self.exits: list[float] = []
        self.leaseless = 0

    async def cause(self, count: int) -> None:
        """So many pauses; every one is over when it returns."""
        self._left = count
        async with asyncio.TaskGroup() as lanes:
            for worker in self._fleet.workers[STEADY:]:
                lanes.create_task(self._lane(worker))

    async def _lane(self, worker: Supervised) -> None:
        while self._left > 0:
            await asyncio.sleep(self._rng.uniform(*AT_WORK))
            process, identity = worker.process, worker.worker_id
            if self._left <= 0 or process is None or not identity or identity in self._began:
                continue
            self._left -= 1
            self._began[identity] = time.time()
            process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(self._rng.uniform(*LEASES) * self._lease)
            finally:
                process.send_signal(signal.SIGCONT)
            resumed = time.perf_counter()
            try:
                async with asyncio.timeout(PATIENCE):
                    await ended(process.pid)
                self.exits.append(time.perf_counter() - resumed)
            except TimeoutError:
                self.leaseless += 1
                process.kill()

    async def restarts(self, connection: Connection) -> list[float]:
        """Seconds from a pause to the begin of the next attempt, for every job that was lost in it the first time."""
        rows = await connection.fetch(RESTARTS)
        return [row["at"] - self._began[row["worker_id"]] for row in rows if row["worker_id"] in self._began]
