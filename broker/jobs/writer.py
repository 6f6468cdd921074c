"""The child of an export: turns blocks of rows into files of Parquet, CSV or Arrow.

Rows are finished, encoded, written, hashed and synced here, so that neither the worker's event loop nor its memory
grows with the data. Memory is bounded by one block and one row group, unless the question has to be computed whole.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from broker.aggregation import kernels
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import ExportFormat
from broker.domain.plan import Finish
from broker.domain.room import no_room
from broker.domain.values import Column
from broker.jobs.child import Channel
from broker.jobs.order import Chunk, Done, End, Failed, Order, PartDone, Whole, Wrote
from broker.jobs.sinks import HashingFile, open_sink

SLICE_ROWS = 1 << 16
ENDINGS = {ExportFormat.PARQUET: "parquet", ExportFormat.CSV: "csv", ExportFormat.ARROW: "arrow"}


def write_export(channel: Channel, order: object) -> None:
    """What the child does."""
    assert isinstance(order, Order)
    telling(channel, lambda: _write(channel, order))


def telling(channel: Channel, work: Callable[[], None]) -> None:
    """Does the work; the worker is told how it failed."""
    try:
        work()
    except EOFError:
        raise  # nobody is left to be told
    except BrokerError as error:
        channel.send(Failed(error))
    except MemoryError:
        text = (
            "The answer needs more memory than a job's process may use. Narrow the query or raise the limit."
        )
        channel.send(Failed(BrokerError(ErrorReason.RESULT_TOO_LARGE, text)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the worker logs it and ends the attempt
        if full := no_room(error):
            return channel.send(Failed(full, str(error)))  # where it was; a traceback would say no more
        text = "The attempt failed unexpectedly."
        channel.send(Failed(BrokerError(ErrorReason.INTERNAL, text), traceback.format_exc()))


def _write(channel: Channel, order: Order) -> None:
    start_ns = time.time_ns()
    rows = size = count = 0
    part: _Part | None = None
    while not isinstance(message := channel.receive(), End):
        for frame in frames(message, order.finish, order.columns):
            if part is None:
                part = _Part(order, count)
                count += 1
            part.write(frame)
            channel.send(Wrote(rows + part.row_count, size + part.byte_count))
            if part.byte_count >= order.part_bytes:
                done = part.finish()
                rows, size, part = rows + done.row_count, size + done.byte_count, None
                channel.send(done)
    if part is None and count == 0:
        part = _Part(order, count)  # an answer without rows is a file with a schema
    if part is not None:
        channel.send(part.finish())
    channel.send(Done(os.getpid(), start_ns, time.time_ns()))


def frames(message: object, finish: Finish | None, columns: tuple[Column, ...]) -> Iterator[pl.DataFrame]:
    """The finished rows of a message, in frames that are not too large."""
    if isinstance(message, Chunk):
        frame = kernels.rows(message.block, finish, columns)
    else:
        assert isinstance(message, Whole)
        assert finish is not None
        frame = kernels.answer(message.results, finish)
    if frame.height:
        yield from frame.iter_slices(SLICE_ROWS)


class _Part:
    """One file on its way."""

    def __init__(self, order: Order, index: int) -> None:
        self._name = f"part-{index:05}.{ENDINGS[order.format]}"
        self._file = HashingFile(Path(order.directory) / self._name)
        self._sink = open_sink(order.format, order.columns, self._file)
        self.row_count = 0

    @property
    def byte_count(self) -> int:
        return self._file.tell()

    def write(self, frame: pl.DataFrame) -> None:
        self._sink.write(frame)
        self.row_count += frame.height

    def finish(self) -> PartDone:
        """Completes the file and makes its contents durable."""
        self._sink.close()
        sha256 = self._file.sync()
        return PartDone(self._name, self.row_count, self.byte_count, sha256)
