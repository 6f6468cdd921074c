"""Child processes of a worker, one for each attempt that has CPU work to do.

Not a pool: an attempt's child can be killed at any moment without harm to others, and one that dies is the end of its
attempt only. Children come from a forkserver, which has imported what they need, so a start takes milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import TypeVar

from broker.domain.errors import BrokerError, ErrorReason
from broker.jobs.child import HEADER, enter

T = TypeVar("T")
BUFFER = 1 << 20


class ChildLostError(BrokerError):
    """A child died before its work was done; ``exit_code`` is negative for a signal.

    WORKER_LOST, or RESULT_TOO_LARGE when it has aborted: native code does that when it is refused memory.
    """

    def __init__(self, exit_code: int | None) -> None:
        if exit_code == -signal.SIGABRT:
            reason = ErrorReason.RESULT_TOO_LARGE
            text = "The process that did the work gave up, most likely for want of memory. Narrow the query or raise "
            text += "the limit of a job's process."
        else:
            reason = ErrorReason.WORKER_LOST
            text = f"The process that did the work ended with code {exit_code}. It may have needed more memory than it "
            text += "has."
        super().__init__(reason, text, metadata={"exit_code": str(exit_code)})


class Child:
    """One child process and the worker's end of its channel."""

    def __init__(
        self,
        process: ForkServerProcess,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        join: Callable[[], asyncio.Future[int | None]],
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._join = join

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        assert self._process.pid is not None
        return self._process.pid

    async def send(self, message: object) -> None:
        """Sends a message; waits while the child is busy, so that no more than a message or two lie between.

        Raises:
            ChildLostError: the child has died.
        """
        data = pickle.dumps(message, protocol=5)
        try:
            self._writer.write(HEADER.pack(len(data)))
            self._writer.write(data)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:  # uvloop says RuntimeError for a closed transport
            raise ChildLostError(await self._join()) from error

    async def receive(self) -> object:
        """The next message.

        Raises:
            ChildLostError: the child has died.
        """
        try:
            (size,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            return pickle.loads(await self._reader.readexactly(size))  # noqa: S301 - from our own child
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ChildLostError(await self._join()) from error

    def kill(self) -> None:
        """Kills the child and its process group at once; does not wait."""
        kill_group(self.pid)

    async def close(self) -> None:
        """Kills what is left and waits until it is gone."""
        self.kill()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
        await self._join()


class Children:
    """Starts children and knows which are alive. ``kill_all`` may be called from any thread."""

    def __init__(self, memory_bytes: int, preload: tuple[str, ...] = ("broker.jobs.writer",)) -> None:
        self._memory_bytes = memory_bytes
        self._context: ForkServerContext = get_context("forkserver")
        self._context.set_forkserver_preload([*preload])
        # One thread: multiprocessing's bookkeeping of children is not made for several.
        self._thread = ThreadPoolExecutor(1, "children")
        self._alive: set[int] = set()
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Children alive."""
        with self._lock:
            return len(self._alive)

    @asynccontextmanager
    async def child(self, main: str, argument: object) -> AsyncIterator[Child]:
        """A child that runs ``main``, named as ``module:function``, with its channel and the argument.

        It is killed when the context is left.
        """
        ours, theirs = socket.socketpair()
        process = self._context.Process(
            target=enter, args=(theirs, self._memory_bytes, main, argument), daemon=True
        )
        loop = asyncio.get_running_loop()

        def join() -> asyncio.Future[int | None]:
            return loop.run_in_executor(self._thread, self._join, process)

        try:
            try:
                # Not to be interrupted half way: the process would be started and nobody would know it.
                await _finished(loop.run_in_executor(self._thread, self._start, process))
            finally:
                theirs.close()
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=BUFFER)
        except BaseException:
            ours.close()
            if process.pid is not None:
                kill_group(process.pid)
                await _finished(join())
            raise
        child = Child(process, reader, writer, join)
        try:
            yield child
        finally:
            await _finished(asyncio.ensure_future(child.close()))

    def kill_all(self) -> None:
        """Kills every child at once; does not wait."""
        with self._lock:
            for pid in self._alive:
                kill_group(pid)

    def close(self) -> None:
        """Ends the helper thread. Children must be gone."""
        self._thread.shutdown()

    def _start(self, process: ForkServerProcess) -> None:
        process.start()
        assert process.pid is not None
        with self._lock:
            self._alive.add(process.pid)

    def _join(self, process: ForkServerProcess) -> int | None:
        process.join()
        with self._lock:
            self._alive.discard(process.pid or 0)
        return process.exitcode


async def _finished(future: asyncio.Future[T]) -> T:
    """Waits for something that must run to its end; a cancellation is kept until then."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return future.result()


def kill_group(pid: int) -> None:
    """Kills a process and the group that it leads, should it have made one already."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
