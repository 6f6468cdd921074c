"""The queue as metrics: jobs by state, and the age of the oldest one that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from broker.domain.job import JobState
from broker.domain.state import JobQueueState
from broker.jobs.loops import end, repeat
from broker.ports.jobs import JobStore
from broker.telemetry import catalog
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading

DEAD_LETTERED = "dead_lettered"
"""Jobs in the dead-letter queue, beside the states."""


class QueueGauges:
    """Reads the queue now and then; whoever collects metrics sees what was read last, and nothing before that."""

    def __init__(self, store: JobStore, telemetry: Telemetry) -> None:
        self._store = store
        self._telemetry = telemetry
        self._last: JobQueueState | None = None

    @asynccontextmanager
    async def running(self, seconds: float, rng: Random) -> AsyncIterator[None]:
        """Reads every so many seconds while the context is open."""
        forget = [
            self._telemetry.observe(catalog.JOBS, self._counts),
            self._telemetry.observe(catalog.JOB_QUEUE_AGE, self._age),
        ]
        reading = asyncio.create_task(repeat("counting", seconds, rng, self.read))
        try:
            yield
        finally:
            await end([reading])
            for remove in forget:
                remove()

    async def read(self) -> None:
        """Reads the queue once."""
        self._last = await self._store.queue_state()

    def _counts(self) -> list[Reading]:
        last = self._last
        if last is None:
            return []
        counts = {
            JobState.QUEUED.value: last.queued_count,
            JobState.RUNNING.value: last.running_count,
            DEAD_LETTERED: last.dead_lettered_count,
        }
        return [(float(count), {n.JOB_STATE: state}) for state, count in counts.items()]

    def _age(self) -> list[Reading]:
        return [] if self._last is None else [(self._last.oldest_queued_age, {})]
