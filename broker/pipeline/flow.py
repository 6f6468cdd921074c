"""What a stream has read, kept for the job that may carry it on.

Blocks are written to a temporary file as they come from the database, for nobody knows yet whether the deadline comes
first. When a job adopts the stream, it reads the file and then the blocks that follow, as fast as it can take them, and
the caller's side gets none of those.
"""

from __future__ import annotations

import asyncio
import pickle
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import IO

from broker.domain.answer import AnswerStatus, Cost
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Block, Finish, ScanResult

AHEAD = 2
"""Blocks that the database may be ahead of the job."""


class Flow:
    """One stream. ``begun`` is the instant of its snapshot, None while it waits for a seat."""

    def __init__(self) -> None:
        self.begun: datetime | None = None
        self.lag: float | None = None
        self.taken = asyncio.Event()
        self.whole: tuple[tuple[ScanResult, ...], Finish] | None = None
        """The states, where they are read as a whole; there are no blocks then."""
        self.told: Callable[[datetime, Cost], AnswerStatus] | None = None
        """What the answer is worth, by the time at which it is complete and what it has cost."""
        self._file: IO[bytes] | None = None
        self._count = 0
        self._writing = asyncio.Lock()
        self._room = asyncio.Semaphore(AHEAD)
        self._rest: asyncio.Queue[Block | BaseException | None] = asyncio.Queue()

    @property
    def adopted(self) -> bool:
        """Whether a job has the work now."""
        return self.taken.is_set()

    def begin(self, as_of: datetime, lag: float | None) -> None:
        """The snapshot is open."""
        self.begun, self.lag = as_of, lag

    def hold(self, results: tuple[ScanResult, ...], finish: Finish) -> None:
        """The states are read; raises CANCELLED when the caller's side is not to go on."""
        self.whole = (results, finish)
        if self.adopted:
            raise _adopted()

    async def kept(self, blocks: AsyncGenerator[Block, None]) -> AsyncGenerator[Block, None]:
        """The blocks, each of them kept; ends with CANCELLED when a job has them now."""
        async with aclosing(blocks):
            async for block in blocks:
                async with self._writing:
                    before = not self.adopted
                    if before:
                        await asyncio.to_thread(self._write, block)
                if before:
                    yield block
                else:
                    await self._room.acquire()
                    self._rest.put_nowait(block)
        if self.adopted:
            raise _adopted()

    def end(self, error: BaseException | None) -> None:
        """The stream has ended, by an error where there is one that a job has to know of."""
        self._rest.put_nowait(error)

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """All blocks from the first, for the job that has adopted the stream; raises what the stream ended with."""
        async with self._writing:
            count = self._count
        if self._file is not None:
            self._file.seek(0)
            for _ in range(count):
                yield await asyncio.to_thread(pickle.load, self._file)
        while (item := await self._rest.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            self._room.release()
            yield item

    def close(self) -> None:
        """Deletes what was kept."""
        if self._file is not None:
            self._file.close()

    def _write(self, block: Block) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="querybroker-")  # noqa: SIM115 - closed with the flow
        pickle.dump(block, self._file, protocol=5)
        self._count += 1


def _adopted() -> BrokerError:
    return BrokerError(ErrorReason.CANCELLED, "A job carries the work on.")
