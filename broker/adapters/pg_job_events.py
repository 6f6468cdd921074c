"""Hints between processes by NOTIFY: what became due, what changed.

NOTIFY takes a lock that serializes commits, so it is never sent in a transaction that holds rows: hints of one process
are gathered and sent together, at most every 10 ms. Everybody who uses hints polls as well, so a hint may be lost.

There is one LISTEN connection for each process. It is probed through a channel of its own, because a connection may
look alive and deliver nothing; after any trouble it is made anew, and subscribers are told to look everywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from random import Random

import asyncpg

from broker.adapters.pg_jobs_errors import job_database
from broker.adapters.pg_jobs_pool import SETTINGS, JobDatabase
from broker.domain.errors import BrokerError
from broker.ports.jobs import JobSignal

QUEUED = "broker_job_queued"  # payload: the lowest queue rank, ISO 8601
CHANGED = "broker_job_changed"  # payload: ids, separated by commas
STOPPING = "broker_job_stopping"  # the same, for workers
PAYLOAD_LIMIT = 7_900  # PostgreSQL allows 8,000 bytes
GATHER_SECONDS = 0.01
PROBE_SECONDS = 10.0
PATIENCE_SECONDS = 5.0

_SEND = "SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS u (channel, payload)"

logger = logging.getLogger(__name__)


def payloads(ids: Iterable[str]) -> list[str]:
    """The ids as payloads within PostgreSQL's limit."""
    pieces: list[list[str]] = []
    length = PAYLOAD_LIMIT
    for job_id in sorted(ids):
        length += 1 + len(job_id)
        if length > PAYLOAD_LIMIT:
            pieces.append([])
            length = len(job_id)
        pieces[-1].append(job_id)
    return [",".join(piece) for piece in pieces]


class PgJobHints:
    """Gathers the hints of this process and sends them. Its methods never wait and never fail."""

    def __init__(self, database: JobDatabase) -> None:
        self._database = database
        self._ids: dict[str, set[str]] = {CHANGED: set(), STOPPING: set()}
        self._queued: datetime | None = None
        self._waiting = asyncio.Event()

    def changed(self, ids: Iterable[str]) -> None:
        """These jobs have changed."""
        self._gather(CHANGED, ids)

    def stopping(self, job_id: str) -> None:
        """This running job was asked to stop."""
        self._gather(STOPPING, [job_id])

    def queued(self, rank: datetime) -> None:
        """A job with this queue rank has become due."""
        self._queued = rank if self._queued is None else min(rank, self._queued)
        self._waiting.set()

    async def send(self) -> None:
        """Sends what has been gathered; what cannot be sent is dropped, because polling will find it."""
        messages = [(channel, text) for channel, ids in self._ids.items() for text in payloads(ids)]
        if self._queued is not None:
            messages.append((QUEUED, self._queued.isoformat()))
        self._ids, self._queued = {channel: set() for channel in self._ids}, None
        self._waiting.clear()
        if messages:
            try:
                await self._database.fetch(_SEND, [c for c, _ in messages], [text for _, text in messages])
            except BrokerError as error:
                logger.info("hints about jobs were not sent: %s", error)
            except Exception:
                # Hints only hasten what polling finds: whatever it was, the next ones are to be sent.
                logger.exception("hints about jobs were not sent")

    def _gather(self, channel: str, ids: Iterable[str]) -> None:
        self._ids[channel].update(ids)
        if self._ids[channel]:
            self._waiting.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sends hints while the context is open, and the last ones when it is left."""
        task = asyncio.create_task(self._run(), name="job hints")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.send()

    async def _run(self) -> None:
        while True:
            await self._waiting.wait()
            await self.send()
            await asyncio.sleep(GATHER_SECONDS)


class PgJobSignals:
    """Hints from every process, this one included, over one connection."""

    def __init__(self, dsn: str, probe_channel: str, rng: Random) -> None:
        self._dsn = dsn
        self._probe_channel = probe_channel
        self._rng = rng
        self._listeners: list[Callable[[JobSignal], None]] = []
        self._listening = False
        self._probed = asyncio.Event()

    @property
    def listening(self) -> bool:
        """Whether hints arrive at present."""
        return self._listening

    def subscribe(self, listener: Callable[[JobSignal], None]) -> Callable[[], None]:
        """Calls the listener on the event loop with every hint; the returned function ends that."""
        self._listeners.append(listener)
        return partial(self._listeners.remove, listener)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listens while the context is open."""
        task = asyncio.create_task(self._run(), name="job signals")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                with job_database():
                    await self._session()
            except BrokerError as error:
                failures = 1 if self._listening else failures + 1
                level = logging.WARNING if failures == 1 else logging.DEBUG
                logger.log(level, "the channel of job hints broke, polling goes on: %s", error.metadata)
            except Exception:
                # Nobody else listens again; polling goes on meanwhile.
                failures += 1
                logger.exception("the channel of job hints broke, polling goes on")
            finally:
                self._listening = False
            await asyncio.sleep(self._rng.uniform(0.0, min(5.0, 0.2 * 2 ** min(failures, 6))))

    async def _session(self) -> None:
        """Listens until the connection is lost; raises then."""
        settings = {**SETTINGS, "application_name": "querybroker job signals"}
        connection = await asyncpg.connect(self._dsn, timeout=PATIENCE_SECONDS, server_settings=settings)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            for channel in (QUEUED, CHANGED, STOPPING, self._probe_channel):
                await connection.add_listener(channel, self._receive)
            self._listening = True
            self._deliver(JobSignal(resync=True))
            while not lost.is_set():
                self._probed.clear()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await connection.execute("SELECT pg_notify($1, '')", self._probe_channel)
                    await self._probed.wait()
                with suppress(TimeoutError):
                    async with asyncio.timeout(PROBE_SECONDS):
                        await lost.wait()
            raise ConnectionResetError("the connection was closed")
        finally:
            connection.terminate()

    def _receive(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        text = str(payload)
        if channel == QUEUED:
            self._deliver(JobSignal(queued=datetime.fromisoformat(text)))
        elif channel == CHANGED:
            self._deliver(JobSignal(changed=frozenset(text.split(","))))
        elif channel == STOPPING:
            self._deliver(JobSignal(stopping=frozenset(text.split(","))))
        else:
            self._probed.set()

    def _deliver(self, signal: JobSignal) -> None:
        for listener in tuple(self._listeners):
            listener(signal)
