"""COPY as blocks of whole rows, with back-pressure from the consumer down to the socket.

asyncpg hands the rows on as the socket delivers them, always whole ones, because PostgreSQL sends a row per message. It
reads no further while the receiver waits, so a receiver that waits for room in a bounded queue slows the server down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Block, CsvBlock
from broker.domain.values import Column

Put = Callable[[CsvBlock], Awaitable[None]]


class BlockWriter:
    """Joins pieces into blocks of at least ``size`` bytes, the last one apart."""

    def __init__(self, columns: tuple[Column, ...], size: int, put: Put) -> None:
        self._columns, self._size, self._put = columns, size, put
        self._pieces: list[bytes] = []
        self._held = 0

    async def add(self, piece: bytes) -> None:
        """Takes a piece of whole rows."""
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held >= self._size:
            await self.flush()

    async def flush(self) -> None:
        """Passes on what is held."""
        if self._pieces:
            block = CsvBlock(self._columns, b"".join(self._pieces))
            self._pieces, self._held = [], 0
            await self._put(block)


class BlockCollector:
    """Keeps blocks in memory, up to ``limit`` bytes over all lists that it fills."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0

    def into(self, blocks: list[Block]) -> Put:
        """Appends to the list, and raises RESULT_TOO_LARGE when there is no more room."""

        async def put(block: CsvBlock) -> None:
            self._held += len(block.data)
            if self._held > self._limit:
                raise too_large("read_bytes", self._limit)
            blocks.append(block)

        return put


def too_large(name: str, limit: int) -> BrokerError:
    """RESULT_TOO_LARGE, with the limit and what to do."""
    text = (
        f"The result passes the limit {name} = {limit}. Group by less, narrow the range, or set a limit; "
        "for all of it use Explore, which streams, or submit an export job."
    )
    return BrokerError(ErrorReason.RESULT_TOO_LARGE, text, metadata={"limit": name, "value": str(limit)})


async def streamed(
    work: Callable[[Put], Awaitable[None]], queue_size: int, tasks: set[asyncio.Task[None]]
) -> AsyncGenerator[CsvBlock, None]:
    """The blocks that ``work`` puts, which runs in a task of its own, listed in ``tasks`` until it has ended.

    When the generator is closed, or its task cancelled, the work is cancelled and waited for.
    """
    queue: asyncio.Queue[CsvBlock | Exception | None] = asyncio.Queue(queue_size)

    async def pump() -> None:
        try:
            await work(queue.put)
        except Exception as error:  # noqa: BLE001 - it is raised again on the other side
            await queue.put(error)
        else:
            await queue.put(None)

    task = asyncio.create_task(pump())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        task.cancel()
        await asyncio.wait([task])
