"""The worker processes of one executor pool: who is idle, who waits, who is replaced.

A worker serves one request at a time. A caller that is cancelled or out of time leaves at once; its worker has
``GRACE_SECONDS`` to end by itself, which most tasks do, and is killed and replaced otherwise. Nothing of a task is kept
outside of its worker, so killing one costs nobody else anything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from broker.aggregation.connection import Lost
from broker.aggregation.crew import Crew, Listener, Worker
from broker.aggregation.forkserver import Exit, ForkServer
from broker.aggregation.framing import Reply, Request
from broker.aggregation.refusals import draining, out_of_time, too_large, worker_lost
from broker.domain.pool import PoolLimits, PoolName

GRACE_SECONDS = 0.02
_REPORT_SECONDS = 1.0


@dataclass(slots=True)
class Counts:
    """What has happened since the start."""

    restarts: int = 0
    retried: int = 0


class WorkerPool:
    """The workers of one pool and those who wait for them."""

    def __init__(
        self,
        name: PoolName,
        limits: PoolLimits,
        server: ForkServer,
        numbers: Callable[[], int],
        on_restart: Callable[[PoolName, str], None],
    ) -> None:
        self.name = name
        self.counts = Counts()
        self._memory = limits.worker_memory
        self._on_restart = on_restart
        self._crew = Crew(name, limits, server, numbers, Listener(self._offer, self._forget, self._replaced))
        self._idle: list[Worker] = []
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that are ready or busy."""
        return self._crew.pids

    @property
    def busy(self) -> int:
        """Requests under way, those whose caller has left included."""
        return len(self.pids) - len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return len(self._waiting)

    async def start(self) -> None:
        """Starts the workers and waits until they are ready."""
        await self._crew.start()

    async def close(self) -> None:
        """Takes no more work; who waits or is being served gets DRAINING."""
        self._closed = True
        await self._crew.close()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(draining())

    async def run(self, request: Request, seconds: float) -> Reply:
        """The worker's reply; when a worker dies, another one gets one try, because requests change nothing.

        Raises:
            BrokerError: DEADLINE_EXCEEDED after ``seconds``, WORKER_LOST, RESULT_TOO_LARGE, DRAINING.
        """
        try:
            async with asyncio.timeout(seconds) as limit:
                for last in (False, True):
                    worker = await self._acquire()
                    answer = await self._call(worker, request, limit)
                    if isinstance(answer, Reply):
                        return answer
                    if self._closed:
                        raise draining()
                    if answer.out_of_memory:
                        raise too_large(self._memory)
                    self.counts.retried += not last
        except TimeoutError:
            raise out_of_time(self.name) from None
        raise worker_lost(self.name)

    async def _acquire(self) -> Worker:
        if self._closed:
            raise draining()
        if self._idle:
            return self._idle.pop()
        waiter: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                if waiter in self._waiting:  # else a worker was offered since, and went past it
                    self._waiting.remove(waiter)
            elif waiter.exception() is None:
                self._offer(waiter.result())  # it was handed over in the same turn of the loop
            raise

    def _offer(self, worker: Worker) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(worker)
                return
        self._idle.append(worker)

    async def _call(self, worker: Worker, request: Request, limit: asyncio.Timeout) -> Reply | Exit:
        reply = worker.connection.send(request)
        try:
            answer = await asyncio.shield(reply)
        except Lost:
            return await self._end_of(worker)
        except asyncio.CancelledError:
            self._abandon(worker, reply, "deadline" if limit.expired() else "cancelled")
            raise
        self._release(worker, answer)
        return answer

    async def _end_of(self, worker: Worker) -> Exit:
        try:
            return await asyncio.wait_for(asyncio.shield(worker.ended), _REPORT_SECONDS)
        except TimeoutError:
            self._crew.kill(worker, "crashed")
            return Exit()

    def _abandon(self, worker: Worker, reply: asyncio.Future[Reply], reason: str) -> None:
        """The caller has left: the worker may end by itself within the grace."""
        timer = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._crew.kill, worker, reason)

        def settled(done: asyncio.Future[Reply]) -> None:
            timer.cancel()
            if done.exception() is None:
                self._release(worker, done.result())

        reply.add_done_callback(settled)

    def _release(self, worker: Worker, answer: Reply) -> None:
        if answer.spent:
            self._crew.kill(worker, "memory")
        elif not worker.ended.done() and not worker.doom:
            self._offer(worker)

    def _forget(self, worker: Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)

    def _replaced(self, reason: str) -> None:
        self.counts.restarts += 1
        self._on_restart(self.name, reason)
