"""Workers and brokers that are started again whenever they end, and clients that submit to the brokers."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

from broker.jobs.lease import EXIT_CODE

WORKERS = 3
BROKERS = 2
CLIENTS = 6
PAUSE = 0.15
"""Longest time between two submissions of a client, in seconds."""
PATIENCE = 3.0
"""Seconds after which a client takes a submission for lost."""
CHILD_SHARE = 0.3
READY = "ready"
"""What a worker says, with its identity, once it has its first lease."""


class Supervised:
    """A process that is started again whenever it ends."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.process: asyncio.subprocess.Process | None = None
        self.worker_id = ""
        """The identity that it has said to be ready under; empty before."""
        self.since = 0.0
        """The monotonic time of that."""
        self.codes: list[int] = []
        self.answers: dict[str, asyncio.Future[str]] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                self.worker_id = ""
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", *self._arguments,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
                await self._listen(self.process)
                self.codes.append(await self.process.wait())
        finally:
            if self.process is not None and self.process.returncode is None:
                self.process.kill()
                await self.process.wait()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Gives its answers to those who wait for them, until it ends; then none will come."""
        assert process.stdout is not None
        reading = asyncio.create_task(self._read(process.stdout))
        try:
            await (
                process.wait()
            )  # not the end of its output: children of a killed worker hold that for a moment
        finally:
            reading.cancel()
            for waiting in self.answers.values():
                waiting.cancel()
            self.answers.clear()

    async def _read(self, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            request_id, job_id = line.decode().split()
            if request_id == READY:
                self.worker_id, self.since = job_id, time.monotonic()
            if (waiting := self.answers.pop(request_id, None)) is not None and not waiting.done():
                waiting.set_result(job_id)

    async def ask(self, request_id: str, kind: str) -> str | None:
        """The id of the job; None when it is unknown whether there is one."""
        process = self.process
        if process is None or process.stdin is None or process.returncode is not None:
            return None
        waiting = self.answers[request_id] = asyncio.get_running_loop().create_future()
        try:
            process.stdin.write(f"{request_id} {kind}\n".encode())
            async with asyncio.timeout(PATIENCE):
                answer = await waiting
        except (
            OSError,
            RuntimeError,
            TimeoutError,
            asyncio.CancelledError,
        ):  # uvloop: RuntimeError when closed
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return None
        finally:
            self.answers.pop(request_id, None)
        return None if answer == "!" else answer


class Fleet:
    """All processes but PostgreSQL. ``acknowledged`` has the job's id for every submission that was answered.

    Clients submit only while ``flowing`` is set: who works is killed so often that the queue would grow for ever.
    """

    def __init__(
        self,
        dsn: str,
        folder: Path,
        lease: float,
        rng: Random,
        *,
        workers: int = WORKERS,
        clients: int = CLIENTS,
    ) -> None:
        worker = ("tests.bench.parts.crash_worker", dsn, str(folder), str(lease))
        self.workers = [Supervised(*worker) for _ in range(workers)]
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._client_count = clients
        self.brokers = [Supervised("tests.bench.parts.crash_broker", dsn) for _ in range(BROKERS)]
        self.acknowledged: dict[str, str] = {}
        self.unknown = 0
        self.other_ids = 0
        self._rng = Random(rng.random())
        self._stop = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []

    @property
    def fenced(self) -> int:
        """Workers that have ended themselves, because they had lost their lease."""
        return sum(worker.codes.count(EXIT_CODE) for worker in self.workers)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Fleet]:
        """Everything runs while the context is open."""
        supervising = [asyncio.create_task(process.run()) for process in (*self.workers, *self.brokers)]
        self._clients = [asyncio.create_task(self._client()) for _ in range(self._client_count)]
        try:
            yield self
        finally:
            await self.stop_producing()
            for task in supervising:
                task.cancel()
            await asyncio.gather(*supervising, return_exceptions=True)

    async def stop_producing(self) -> None:
        """Every submission under way is repeated until it is answered, then no more come."""
        self._stop.set()
        self.flowing.set()
        await asyncio.gather(*self._clients)

    async def _client(self) -> None:
        while not self._stop.is_set():
            await self.flowing.wait()
            await self.submit(str(uuid.uuid4()), "child" if self._rng.random() < CHILD_SHARE else "async")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rng.uniform(0.0, PAUSE)):
                    await self._stop.wait()

    async def submit(self, request_id: str, kind: str) -> str:
        """Once, however often it has to be repeated; and now and then once more, though it was answered; its id."""
        turn = self._rng.randrange(BROKERS)
        while (job_id := await self.brokers[turn % BROKERS].ask(request_id, kind)) is None:
            self.unknown += 1
            turn += 1
            await asyncio.sleep(0.05)
        known = self.acknowledged.setdefault(request_id, job_id)
        self.other_ids += known != job_id
        if self._rng.random() < 0.1:
            again = await self.brokers[(turn + 1) % BROKERS].ask(request_id, kind)
            self.other_ids += again is not None and again != job_id
        return known
