"""The process that builds rollups and runs jobs: killed, halted and started again."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from tests.support.server import RunningBroker, running_broker

ATTEMPTS = 10


class Refresher:
    """A ``broker worker``, and all processes that ever were started for it."""

    def __init__(self, dsn: str, home: Path, config: Path, overrides: Mapping[str, object]) -> None:
        self._dsn, self._home, self._config, self._overrides = dsn, home, config, overrides
        self._numbers = itertools.count()
        self._manager: AbstractContextManager[RunningBroker] | None = None
        self._process: psutil.Process | None = None
        self.family: set[psutil.Process] = set()
        self.logs: list[Path] = []

    async def start(self) -> None:
        """Starts it, with a log of its own; again, as a supervisor would, when it ends for want of the store."""
        for left in reversed(range(ATTEMPTS)):
            home = self._home / f"refresher-{next(self._numbers)}"
            manager = running_broker(
                self._dsn, home, config=self._config, overrides=self._overrides, role="worker"
            )
            try:
                running = await asyncio.to_thread(manager.__enter__)
            except RuntimeError:
                if not left:
                    raise
                continue
            self._manager, self._process = manager, psutil.Process(running.process.pid)
            self.logs.append(running.log)
            return

    async def kill(self) -> None:
        """``kill -9`` of the process alone."""
        if self._process is not None:
            self.family |= set(self._process.children(recursive=True))
            self._process.kill()
        await self.stop()

    async def stop(self) -> None:
        """Ends it in order, unless it is dead."""
        if self._manager is not None:
            await asyncio.to_thread(self._manager.__exit__, None, None, None)
        self._manager = self._process = None

    @contextmanager
    def halted(self) -> Iterator[None]:
        """It stands still meanwhile."""
        process = self._process
        if process is None:
            raise TimeoutError
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs it."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()
