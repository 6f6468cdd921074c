"""One hub per process tells watchers about jobs: hints say where to look, the database says what is true.

Every watcher has room for one event: a newer one takes its place, so a slow watcher costs nothing and sees the newest
state. A final state is never replaced. While hints arrive the database is asked every few seconds for what they may
have missed; while they do not, several times a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

from broker.domain.errors import BrokerError, no_such_job
from broker.domain.job import Job, JobEvent
from broker.ports.jobs import JobSignal, JobSignals, JobStore

BATCH = 250
"""Jobs that are asked for in one statement; each may bring a small result along."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HubPace:
    """How often the hub asks the database, in seconds.

    At most once in ``gather``; about all watched jobs every ``listening``, or every ``deaf`` while no hints arrive.
    """

    gather: float = 0.02
    listening: float = 5.0
    deaf: float = 0.25


class _Watcher:
    """Room for one event. ``known`` is the newest job that was offered, taken or not."""

    def __init__(self, after_revision: int) -> None:
        self.revision = after_revision
        self.known: Job | None = None
        self._newest: Job | None = None
        self._gone = False
        self._waiting: asyncio.Future[None] | None = None

    def offer(self, job: Job) -> None:
        """Takes a newer state; a final one stays."""
        if self.known is None or job.revision > self.known.revision:
            self.known = job
        held = self._newest
        if job.revision > self.revision and (
            held is None or (not held.state.final and job.revision > held.revision)
        ):
            self._newest = job
            self._wake()

    def end(self) -> None:
        """The job does not exist any more."""
        self._gone = True
        self._wake()

    async def take(self, seconds: float) -> Job | None:
        """The newest state that was not taken yet, None after so many seconds without one."""
        if self._newest is None and not self._gone:
            loop = asyncio.get_running_loop()
            # Not `asyncio.timeout`, and no event: they cost more than the rest of an event together.
            self._waiting = loop.create_future()
            silence = loop.call_later(seconds, self._wake)
            try:
                await self._waiting
            finally:
                silence.cancel()
                self._waiting = None
        job, self._newest = self._newest, None
        if job is not None:
            self.revision = job.revision
        elif self._gone:
            raise LookupError
        return job

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class JobHub:
    """Implements JobEvents over one JobStore and the signals of this process."""

    def __init__(self, store: JobStore, signals: JobSignals, pace: HubPace | None = None) -> None:
        self._store = store
        self._signals = signals
        self._pace = pace or HubPace()
        self._watchers: dict[str, set[_Watcher]] = {}
        self._dirty: set[str] = set()
        self._all = False
        self._wake = asyncio.Event()

    @property
    def watching(self) -> int:
        """Watchers at present."""
        return sum(map(len, self._watchers.values()))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watches can be made while the context is open."""
        unsubscribe = self._signals.subscribe(self._hear)
        task = asyncio.create_task(self._run(), name="job hub")
        try:
            yield
        finally:
            unsubscribe()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @asynccontextmanager
    async def watch(
        self, tenant: str, job_id: str, after_revision: int, keep_alive: float
    ) -> AsyncIterator[AsyncGenerator[JobEvent, None]]:
        """The job's states after a revision, newest wins, ending after the final one."""
        watcher = _Watcher(after_revision)
        watchers = self._watchers.setdefault(job_id, set())
        watchers.add(watcher)  # before the first look: nothing can happen unseen in between
        try:
            job = await self._store.get(tenant, job_id)
            if job is None:
                raise no_such_job(tenant, job_id)
            async with aclosing(_events(watcher, job, keep_alive)) as events:
                yield events
        finally:
            watchers.discard(watcher)
            if not watchers and self._watchers.get(job_id) is watchers:
                del self._watchers[job_id]

    def _hear(self, signal: JobSignal) -> None:
        touched = [job_id for job_id in signal.changed if job_id in self._watchers]
        self._dirty.update(touched)
        self._all = self._all or signal.resync
        if touched or signal.resync:
            self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        trouble: object = None  # told when it begins, not at every look
        while True:
            seconds = self._pace.listening if self._signals.listening else self._pace.deaf
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                self._all = True
            self._wake.clear()
            began = loop.time()
            dirty, everything = self._dirty, self._all
            self._dirty, self._all = set(), False
            try:
                await (self._look_everywhere() if everything else self._look_at(sorted(dirty)))
                trouble = None
            except BrokerError as error:
                if error.reason is not trouble:
                    logger.info("watchers wait for the job database: %s", error)
                trouble, self._all = error.reason, True
            except Exception as error:
                # Every watcher of this process depends on this loop: it looks again, at everything.
                if type(error) is not trouble:
                    logger.exception("watchers wait: looking at their jobs failed")
                trouble, self._all = type(error), True
            await asyncio.sleep(max(0.0, began + self._pace.gather - loop.time()))

    async def _look_everywhere(self) -> None:
        """Compares revisions, reads what has changed, and ends the watches of jobs that are gone."""
        ids = sorted(self._watchers)
        for batch in (ids[i : i + BATCH] for i in range(0, len(ids), BATCH)):
            found = {version.id: version.revision for version in await self._store.versions(batch)}
            for job_id in batch:
                if job_id not in found:
                    for watcher in self._watchers.get(job_id, ()):
                        watcher.end()
            changed = [j for j in found if any(w.revision < found[j] for w in self._watchers.get(j, ()))]
            await self._look_at(changed)

    async def _look_at(self, ids: Sequence[str]) -> None:
        for batch in (ids[i : i + BATCH] for i in range(0, len(ids), BATCH)):
            whole: list[str] = []
            for change in await self._store.changes(batch):
                known = self._known(change.id)
                if known is None or not change.follows(known):
                    whole.append(change.id)
                elif change.revision > known.revision:
                    self._offer(change.applied(known))
            if whole:
                for job in await self._store.get_many(whole):
                    self._offer(job)

    def _offer(self, job: Job) -> None:
        """The same value to every watcher, so that what is made of it can be shared."""
        for watcher in self._watchers.get(job.id, ()):
            watcher.offer(job)

    def _known(self, job_id: str) -> Job | None:
        """What every watcher of a job that looks has seen, None while one may have seen less."""
        newest: Job | None = None
        for watcher in self._watchers.get(job_id, ()):
            known = watcher.known
            if known is None:
                return None
            if newest is None or known.revision < newest.revision:
                newest = known
        return newest


async def _events(watcher: _Watcher, job: Job, keep_alive: float) -> AsyncGenerator[JobEvent, None]:
    """The job as it is, if it is newer than the watcher's revision, then what follows."""
    if job.state.final and job.revision <= watcher.revision:
        yield JobEvent(job)  # nothing follows: whoever resumes after the end is told the end again
        return
    watcher.offer(job)
    while True:
        try:
            newer = await watcher.take(keep_alive)
        except LookupError:
            raise no_such_job(job.tenant, job.id) from None
        if newer is None:
            yield JobEvent(job, keep_alive=True)
            continue
        job = newer
        yield JobEvent(job)
        if job.state.final:
            return
