"""Writes the successes of a worker: those that have come while the last ones were written go together in one statement.

Nobody waits for company. A single success is written at once; where jobs end faster than statements do, one statement
carries many of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from broker.domain.errors import BrokerError
from broker.ports.jobs import JobQueue, Success

MOST = 500
"""Successes in one statement."""


class Finisher:
    """Publishes results for the attempts of one worker. ``retention`` in seconds, of results that do not say."""

    def __init__(self, queue: JobQueue, retention: float) -> None:
        self._queue = queue
        self._retention = retention
        self._waiting: list[tuple[Success, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None

    def succeed(self, done: Success) -> asyncio.Future[bool]:
        """Whether the result was published, as :meth:`broker.ports.jobs.JobQueue.succeed` tells, once it is known."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((done, told))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="finishing jobs")
        return told

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._publish(batch)
        finally:
            self._writing = None

    async def _publish(self, batch: Sequence[tuple[Success, asyncio.Future[bool]]]) -> None:
        alike: dict[tuple[str, float], list[tuple[Success, asyncio.Future[bool]]]] = {}
        for entry in batch:  # of two identities at most, when a lease has just been replaced
            kept = entry[0].result.retention
            retention = self._retention if kept is None else kept
            alike.setdefault((entry[0].job.worker_id, retention), []).append(entry)
        for (_, retention), own in alike.items():
            try:
                published = await self._queue.succeed_all([success for success, _ in own], retention)
            except BrokerError as error:
                _tell_error(own, error)
            except Exception as error:  # noqa: BLE001 - one that cannot be written must not be the end of the others
                if len(own) == 1:
                    _tell_error(own, error)
                else:
                    for entry in own:
                        await self._publish([entry])
            except BaseException:
                for _, told in own:
                    told.cancel()
                raise
            else:
                _tell(own, published)


def _tell(
    batch: Sequence[tuple[Success, asyncio.Future[bool]]], published: Collection[tuple[str, int]]
) -> None:
    for success, told in batch:
        if not told.done():
            told.set_result((success.job.id, success.job.fence) in published)


def _tell_error(batch: Sequence[tuple[Success, asyncio.Future[bool]]], error: Exception) -> None:
    for _, told in batch:
        if not told.done():
            told.set_exception(error)
