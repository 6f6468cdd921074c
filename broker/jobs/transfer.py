"""What kinds that write files have in common: rows go to the attempt's child, its files go to the result store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from broker.domain.answer import Interval
from broker.domain.errors import BrokerError
from broker.domain.job import JobProgress
from broker.domain.plan import Block, CsvBlock
from broker.jobs.children import Child, ChildLostError
from broker.jobs.kind import JobContext
from broker.jobs.order import Chunk, Done, Failed, PartDone, Whole, Wrote
from broker.jobs.progress import Rate
from broker.jobs.sources import Source
from broker.ports.results import Staging
from broker.ports.store import QueryStore, Snapshot, SqlPlan
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

T = TypeVar("T")
Told = Callable[[int, int], None]
"""Is told the rows and bytes that have been written so far."""

ALMOST = 0.99
"""How far an attempt can be by an estimate; only the end itself is the whole."""
CHUNK_BYTES = 1 << 20
"""Rows are sent to the child in messages of about so many bytes."""
INLINE_BYTES = 256 << 10
"""A result that is one file of at most so many bytes is kept in the job's row."""

logger = logging.getLogger(__name__)


async def both(read: Coroutine[Any, Any, T], collect: Coroutine[Any, Any, None]) -> T:
    """Feeds the child and takes what it finishes; the first error of either side ends both."""
    reading = asyncio.create_task(read)
    writing = asyncio.create_task(collect)
    try:
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_EXCEPTION)
        if reading.done() and isinstance(reading.exception(), ChildLostError):
            await asyncio.wait({writing})  # it knows better why the child is gone
        if writing.done() and (error := writing.exception()) is not None:
            raise error
        result = await reading
        await writing
        return result
    finally:
        for task in (reading, writing):
            task.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)


async def expected(store: QueryStore, source: Source, context: JobContext) -> tuple[int, int]:
    """The rows and bytes to expect of a source; zeros when nobody knows."""
    if isinstance(source, SqlPlan) or not source.finish.pushed_down:
        return 0, 0
    try:
        found = await store.estimate(source, context.deadline)
    except BrokerError as error:
        logger.info("%s goes on without an estimate: %s", context.job.name, error)
        return 0, 0
    rows = min(found.rows, source.query.limit) if source.query.limit else found.rows
    return rows, rows * found.width


async def expected_rows(store: QueryStore, sources: Sequence[Source], context: JobContext) -> int:
    """The rows to expect of all sources; 0 when nobody knows."""
    each = [(await expected(store, source, context))[0] for source in sources]
    return sum(each) if all(each) else 0


async def send(source: Source, snapshot: Snapshot, child: Child) -> Whole | None:
    """Sends the rows of a source as they come; what has to be computed whole is read and given back, to be sent."""
    if isinstance(source, SqlPlan):
        await _feed(snapshot.stream_sql(source), child)
    elif source.finish.pushed_down:
        await _feed(snapshot.stream(source), child)
    else:
        return Whole(await snapshot.read(source))
    return None


async def _feed(blocks: AsyncGenerator[Block, None], child: Child) -> None:
    """Sends the blocks, small ones joined: what the child does with a block costs it nearly the same for any size."""
    held: list[CsvBlock] = []
    async with aclosing(blocks):
        async for block in blocks:
            if not isinstance(block, CsvBlock):
                await child.send(Chunk(block))
                continue
            held.append(block)
            if sum(len(each.data) for each in held) >= CHUNK_BYTES:
                await child.send(_joined(held))
                held = []
    if held:
        await child.send(_joined(held))


def _joined(blocks: Sequence[CsvBlock]) -> Chunk:
    return Chunk(CsvBlock(blocks[0].columns, b"".join([block.data for block in blocks])))


class Parts:
    """Finished files of a child: published as they come, but for a single small one, whose bytes are kept."""

    def __init__(self, staging: Staging, inline_bytes: int) -> None:
        self._staging = staging
        self._inline_bytes = inline_bytes
        self._held: PartDone | None = None
        self.inline = b""
        self.kept: list[tuple[str, PartDone]] = []
        """With their keys; that of the bytes that are kept is empty."""

    async def add(self, part: PartDone) -> None:
        """Takes a file; a small one is held back until it is known whether it is the only one."""
        await self._publish_held()
        self._held = part
        if self.kept or part.byte_count > self._inline_bytes:
            await self._publish_held()

    async def end(self) -> None:
        """No more will come."""
        if self._held is not None and not self.kept:
            path = Path(self._staging.directory) / self._held.name
            self.inline = await asyncio.to_thread(path.read_bytes)
            self.kept.append(("", self._held))
        else:
            await self._publish_held()

    async def _publish_held(self) -> None:
        part, self._held = self._held, None
        if part is not None:
            self.kept.append((await self._staging.publish(part.name), part))


async def collect(child: Child, parts: Parts, wrote: Told, telemetry: Telemetry) -> None:
    """Takes what the child says until it is done."""
    while not isinstance(message := await child.receive(), Done):
        match message:
            case Wrote(rows, size):
                wrote(rows, size)
            case PartDone():
                await parts.add(message)
            case Failed(error, detail):
                if detail:
                    logger.error("the child of a job failed:\n%s", detail)
                raise error
            case _:
                raise TypeError(f"not a message of the child: {message!r}")
    await parts.end()
    wrote(sum(p.row_count for _, p in parts.kept), sum(p.byte_count for _, p in parts.kept))
    attributes = {n.PROCESS_ID: message.process_id}
    telemetry.worker_span(SpanName.WORKER, message.start_ns, message.end_ns, attributes=attributes)


class Progress:
    """Tells how far an attempt is. Rows count as done when the child has written them. ``total`` is 0 when unknown."""

    def __init__(self, context: JobContext, total: int, rate: Rate) -> None:
        self._context = context
        self._total = total
        self._rate = rate
        self._at: tuple[Interval | None, str] = (None, "")
        self.row_count = 0
        self.byte_count = 0

    def at(self, interval: Interval | None, message: str) -> None:
        """What is being worked on from now on."""
        self._at = (interval, message)

    def wrote(self, rows: int, size: int) -> None:
        """So many rows and bytes have been written."""
        self.row_count, self.byte_count = rows, size
        self.tell("writing")

    def tell(self, phase: str, message: str = "") -> None:
        """Reports a phase with what is known."""
        fraction = min(ALMOST, self.row_count / self._total) if self._total else None
        self._report(phase, fraction, max(self._total, self.row_count) if self._total else 0, message)

    def end(self) -> None:
        """Reports the whole."""
        self.at(None, "")
        self._report("done", 1.0, self.row_count)

    def _report(self, phase: str, fraction: float | None, total: int, message: str = "") -> None:
        rate = self._rate.at(self.row_count)
        interval, at = self._at
        self._context.report(
            JobProgress(
                phase, fraction, self.row_count, total, self.byte_count, rate, message or at, interval
            )
        )
