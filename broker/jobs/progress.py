"""Progress of all attempts of a worker, written together: the newest of each, twice a second at most."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from broker.domain.job import Job, JobProgress
from broker.ports.jobs import JobQueue

RATE_SECONDS = 5.0


class ProgressBoard:
    """Holds what attempts report until the next flush."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._news: dict[tuple[str, int], tuple[Job, JobProgress]] = {}
        self._last: dict[tuple[str, int], JobProgress] = {}

    def report(self, job: Job, progress: JobProgress) -> None:
        """Takes an attempt's progress in place of what it reported before."""
        key = (job.id, job.fence)
        self._news[key] = (job, progress)
        self._last[key] = progress

    def take(self, job: Job) -> JobProgress:
        """The attempt's last progress, which is forgotten and no longer written."""
        key = (job.id, job.fence)
        self._news.pop(key, None)
        return self._last.pop(key, job.progress)

    async def flush(self) -> Collection[str]:
        """Writes the news in one statement; returns the ids of attempts that are stale.

        Raises:
            BrokerError: STORE_UNAVAILABLE; the news that nothing newer has replaced are kept.
        """
        news, self._news = self._news, {}
        try:
            return await self._queue.report(list(news.values()))
        except BaseException:
            self._news = {**news, **self._news}
            raise


class Rate:
    """Rows per second over the last few seconds; ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def at(self, count: int) -> float:
        """The rate, now that ``count`` rows are done."""
        now = self._clock()
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        return (count - before) / (now - then) if now > then else 0.0
