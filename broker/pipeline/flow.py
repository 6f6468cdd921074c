"""What a stream has read, kept for the job that may carry it on.

Blocks are written to a temporary file as they come from the database, for nobody knows yet whether the deadline comes
first. When a job adopts the stream, it reads the file and then the blocks that follow, as fast as it can take them, and
the caller's side gets none of those. The file has a limit: a stream that passes it first is no longer kept, and a job
begins the work anew.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import datetime
from typing import IO

from broker.domain.answer import AnswerStatus, Cost
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Block, Finish, ScanResult

AHEAD = 2
"""Blocks that the database may be ahead of the job."""
KEPT_BYTES = 1 << 30
"""What is kept of one stream, at most. A broker needs so much room for every seat of explorations, at worst."""

logger = logging.getLogger(__name__)


class Flow:
    """One stream. ``begun`` is the instant of its snapshot, None while it waits for a seat.

    ``most`` is the length in bytes up to which it is kept, a block more at most.
    """

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most = most
        self._complete = True
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

    async def keep(self) -> bool:
        """Keeps the stream from now on, however long it gets, for a job; False when it was too long before."""
        async with self._writing:
            if self._complete:
                self._most = sys.maxsize
            return self._complete

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
                    if before and self._complete:
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
        """Keeps a block, or nothing any more where there is no room for it."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="querybroker-")  # noqa: SIM115 - closed with the flow
        try:
            if self._file.tell() <= self._most:
                pickle.dump(block, self._file, protocol=5)
                self._count += 1
                return
        except OSError as error:
            logger.warning("a stream is no longer kept for a job: %s", error)
        self._complete = False
        with suppress(OSError):  # closing writes what is left
            self._file.close()


def _adopted() -> BrokerError:
    return BrokerError(ErrorReason.CANCELLED, "A job carries the work on.")
