"""Keeps a pool's worker processes alive: starts them, and replaces every one that ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from broker.aggregation.connection import Connection, Lost, connect
from broker.aggregation.forkserver import Exit, ForkServer
from broker.domain.pool import PoolLimits, PoolName

_GREETING_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_NICE = {PoolName.EXPLORATION: 5, PoolName.JOB: 10}
"""Where processors are short, the event loop and dashboards come first."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process; ``doom`` says why it was killed."""

    number: int
    connection: Connection
    ended: asyncio.Future[Exit]
    pid: int = 0
    doom: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told of workers: ready for work, gone, and why one was replaced."""

    ready: Callable[[Worker], None]
    gone: Callable[[Worker], None]
    replaced: Callable[[str], None]


class Crew:
    """The worker processes of a pool. ``numbers`` gives every worker a number of its own."""

    def __init__(
        self,
        name: PoolName,
        limits: PoolLimits,
        server: ForkServer,
        numbers: Callable[[], int],
        listener: Listener,
    ) -> None:
        self._name = name
        self._limits = limits
        self._server = server
        self._numbers = numbers
        self._listener = listener
        self._workers: set[Worker] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that are ready or busy."""
        return tuple(worker.pid for worker in tuple(self._workers))

    async def start(self) -> None:
        """Starts the workers and waits until they are ready."""
        for _ in range(self._limits.workers):
            self._replace()
        while len(self._workers) < self._limits.workers:
            await asyncio.wait(self._starting, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Replaces nobody any more and lets go of the workers, which the fork server ends."""
        self._closed = True
        starting = list(self._starting)
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        for worker in self._workers:
            worker.connection.close()

    def kill(self, worker: Worker, reason: str) -> None:
        """Kills a worker; another one takes its place."""
        worker.doom = worker.doom or reason
        self._server.kill(worker.number)

    def _replace(self) -> None:
        task = asyncio.get_running_loop().create_task(self._start_worker())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_worker(self) -> None:
        """Starts one worker, again and again with growing pauses until one is ready."""
        while True:
            if self._failures:
                await asyncio.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (self._failures - 1)))
            try:
                worker = await self._forked()
                async with asyncio.timeout(_GREETING_SECONDS):
                    worker.pid = (await asyncio.shield(worker.connection.greeting)).pid
            except (Lost, OSError) as error:  # a timeout is an OSError
                self._failures += 1
                logger.warning("a worker of the pool %s did not start: %r", self._name, error)
                continue
            self._failures = 0
            self._workers.add(worker)
            worker.ended.add_done_callback(partial(self._gone, worker))
            self._listener.ready(worker)
            return

    async def _forked(self) -> Worker:
        connection, theirs = await connect()
        number = self._numbers()
        try:
            nice = _NICE.get(self._name, 0)
            ended = await self._server.fork(number, theirs, self._limits.worker_memory, nice)
        except BaseException:
            connection.close()
            raise
        finally:
            theirs.close()
        return Worker(number, connection, ended)

    def _gone(self, worker: Worker, ended: asyncio.Future[Exit]) -> None:
        self._workers.discard(worker)
        self._listener.gone(worker)
        worker.connection.close()
        if self._closed:
            return
        end = ended.result()
        reason = worker.doom or ("memory" if end.out_of_memory else "crashed")
        if reason == "crashed":
            how = "with the process that forks workers" if end.code is None else f"exit code {end.code}"
            words = f": {end.errors}" if end.errors else ""
            logger.warning("worker %d of the pool %s died, %s%s", worker.pid, self._name, how, words)
        self._listener.replaced(reason)
        self._replace()
