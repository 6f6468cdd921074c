"""The rows of datasets that jobs made, held in memory for the next question, the least recently asked go first."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing

from broker.aggregation import wire
from broker.aggregation.schema import ROWS
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import ResultPart
from broker.domain.materialised import Materialised
from broker.domain.values import ResultFormat
from broker.ports.results import ResultStore

CHUNK = 1 << 20
_MAGIC = b"ARROW1\0\0"
"""Before the stream that an Arrow file is, with a directory after its end:
https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format"""
_LOG = logging.getLogger(__name__)


class MaterialisedRows:
    """Reads each dataset once at a time, checks its checksums, and holds ``most_bytes`` in all. For one event loop."""

    def __init__(self, results: ResultStore, most_bytes: int) -> None:
        self._results = results
        self._most = most_bytes
        self._held: OrderedDict[str, tuple[bytes, ...]] = OrderedDict()
        self._size = 0
        self._reading: dict[str, asyncio.Task[tuple[bytes, ...]]] = {}

    async def __call__(self, made: Materialised) -> Sequence[bytes]:
        """The files as encoded tables.

        Raises:
            BrokerError: RESULT_EXPIRED when a file has just been deleted, STORE_REJECTED when one is damaged,
                STORE_UNAVAILABLE when the store cannot be read.
        """
        held = self._held.get(made.version)
        if held is not None:
            self._held.move_to_end(made.version)
            return held
        reading = self._reading.get(made.version)
        if reading is None:
            reading = self._reading[made.version] = asyncio.create_task(self._read(made))
            reading.add_done_callback(lambda task: self._ended(made.version, task))
        return await asyncio.shield(reading)

    def _ended(self, version: str, task: asyncio.Task[tuple[bytes, ...]]) -> None:
        """Forgets a reading; whoever waited for it has its error, and nobody may have waited to the end."""
        del self._reading[version]
        if not task.cancelled():
            task.exception()

    async def _read(self, made: Materialised) -> tuple[bytes, ...]:
        tables = tuple([await self._table(made, part) for part in made.parts])
        self._held[made.version] = tables
        self._size += _size(tables)
        while self._size > self._most and self._held:
            _, gone = self._held.popitem(last=False)
            self._size -= _size(gone)
        return tables

    async def _table(self, made: Materialised, part: ResultPart) -> bytes:
        try:
            data = await self._bytes(part) if part.key else made.inline
        except FileNotFoundError:
            text = f"The rows of {made.job} have just been deleted. Submit the job again."
            raise BrokerError(
                ErrorReason.RESULT_EXPIRED, text, metadata={"job": made.job}, resource=made.job
            ) from None
        except OSError as error:
            _LOG.warning("%s cannot be read: %s", part.key, error)
            text = f"The result store cannot be read for {made.job}. Retry after the hint."
            metadata = {"store": "results", "job": made.job}
            raise BrokerError(
                ErrorReason.STORE_UNAVAILABLE, text, retry_after=1.0, metadata=metadata
            ) from error
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).digest())
        if digest != part.sha256 or not data.startswith(_MAGIC):
            text = f"A file of {made.job} is not what was written. Submit the job again."
            raise BrokerError(ErrorReason.STORE_REJECTED, text, metadata={"job": made.job})
        stream = data[len(_MAGIC) :]
        return b"".join(wire.message(ROWS[ResultFormat.ARROW], [stream]))

    async def _bytes(self, part: ResultPart) -> bytes:
        async with aclosing(self._results.read(part.key, 0, CHUNK)) as pieces:
            return b"".join([piece async for piece in pieces])


def _size(tables: Sequence[bytes]) -> int:
    return sum(map(len, tables))
