"""Messages between the broker and its worker processes: pickled values with large byte strings beside them.

A frame is eight bytes with the size of what follows, then the number of parts, their sizes, and the parts: the pickle
first, then every large byte string, which is never copied into the pickle. Both ends run the same code on one machine,
and nobody else can reach the socket, so pickles are safe here.
"""

from __future__ import annotations

import io
import pickle
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any

from broker.domain.errors import BrokerError
from broker.domain.plan import CsvBlock, HeldBlock, LocalFile, SegmentBlock
from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import Span
from broker.domain.segment import BuiltFiles, SegmentBuild
from broker.domain.timegrid import TimeGrid, build

HEAD = struct.Struct("<Q")
_LARGEST_PICKLED_GRID = 2_000


@dataclass(frozen=True, slots=True)
class Encoded:
    """Some rows as the bytes of a message."""

    row_count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A call of a pure function, named ``module:name``; ``trace`` is the caller's W3C traceparent."""

    function: str
    arguments: tuple[Any, ...]
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request: a value, or an error.

    ``started`` and ``ended`` are in nanoseconds of the wall clock, seen from the worker. A worker that is ``spent`` (it
    holds much memory, or an engine has panicked) asks to be replaced. ``fault`` is the stack of an unexpected error.
    """

    pid: int
    value: Any = None
    error: BrokerError | None = None
    fault: str = ""
    started: int = 0
    ended: int = 0
    trace: str = ""
    spent: bool = False


def dump(value: Request | Reply) -> list[bytes | memoryview]:
    """The parts of a frame."""
    buffers: list[pickle.PickleBuffer] = []
    sink = io.BytesIO()
    _Pickler(sink, protocol=5, buffer_callback=buffers.append).dump(value)
    parts = [sink.getbuffer(), *(buffer.raw() for buffer in buffers)]
    sizes = [len(part) for part in parts]
    head = struct.pack(f"<I{len(parts)}Q", len(parts), *sizes)
    return [HEAD.pack(len(head) + sum(sizes)), head, *parts]


def load(frame: memoryview) -> Any:
    """The value in a frame, without the frame's first eight bytes."""
    (count,) = struct.unpack_from("<I", frame)
    sizes = struct.unpack_from(f"<{count}Q", frame, 4)
    start = 4 + 8 * count
    parts: list[bytes] = []
    for size in sizes:
        parts.append(bytes(frame[start : start + size]))
        start += size
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - see the head of the file


def send(connection: socket.socket, value: Request | Reply) -> None:
    """Writes a frame, waiting as long as that takes."""
    for part in dump(value):
        connection.sendall(part)


def receive(connection: socket.socket) -> Any:
    """Reads a frame, waiting for it; None when the other end has closed."""
    head = _exactly(connection, HEAD.size)
    body = None if head is None else _exactly(connection, *HEAD.unpack(head))
    return None if body is None else load(body)


def _exactly(connection: socket.socket, size: int) -> memoryview | None:
    view = memoryview(bytearray(size))
    done = 0
    while done < size:
        got = connection.recv_into(view[done:])
        if not got:
            return None
        done += got
    return view


class _Pickler(pickle.Pickler):
    """Leaves large byte strings beside the pickle, and sends long grids as what they are built from."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is CsvBlock:
            return CsvBlock, (value.columns, pickle.PickleBuffer(value.data))
        if type(value) is Encoded:
            return Encoded, (value.row_count, pickle.PickleBuffer(value.data))
        if type(value) is HeldBlock and value.data:
            return _held, (pickle.PickleBuffer(value.data), replace(value, data=b""))
        if type(value) is SegmentBlock:
            return _block, (_packed(value.files), *(getattr(value, field) for field in _OTHERS))
        if type(value) is SegmentBuild and isinstance(value.base, bytes) and value.base:
            return _build, (pickle.PickleBuffer(value.base), replace(value, base=b""))
        if type(value) is BuiltFiles and (value.data or value.rows):
            buffers = [[pickle.PickleBuffer(data) for data in many] for many in (value.data, value.rows)]
            return _built, (*buffers, replace(value, data=(), rows=()))
        if type(value) is TimeGrid and len(value.starts) > _LARGEST_PICKLED_GRID:
            return _grid, (value.starts[0], value.end, value.grain, value.zone)
        kind: type = type(value)
        parts = _parts(kind)
        return NotImplemented if parts is None else (kind, parts(value))


@cache
def _parts(kind: type) -> Callable[[Any], tuple[Any, ...]] | None:
    """How a value of a dataclass is taken apart into its arguments: twice as fast as what such values do themselves."""
    if (
        not is_dataclass(kind)
        or not all(field.init for field in fields(kind))
        or hasattr(kind, "__post_init__")
    ):
        return None
    names = [field.name for field in fields(kind)]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _grid(start: Any, end: Any, grain: Grain, zone: str) -> TimeGrid:
    """The same grid: its first bucket and its end are where a range begins and ends that has no other."""
    return build(AbsoluteRange(start, end), grain, zone)


_OTHERS = tuple(field.name for field in fields(SegmentBlock) if field.name != "files")
_Packed = tuple[tuple[str, ...], list[Grain], list[str], list[int], tuple[str, ...]]


def _packed(files: Sequence[LocalFile]) -> _Packed:
    """Hundreds of files by column: pickling objects of their own would take longer than reading them."""
    ends = list(chain.from_iterable(file.span for file in files))
    columns = [(f.path, f.grain, f.zone, f.sha256) for f in files]
    paths, grains, zones, sums = zip(*columns, strict=True) if columns else ((), (), (), ())
    return paths, list(grains), list(zones), ends, sums


def _block(packed: _Packed, *others: Any) -> SegmentBlock:
    paths, grains, zones, ends, sums = packed
    spans = map(Span, ends[::2], ends[1::2])
    files = map(LocalFile, paths, grains, zones, spans, sums)
    return SegmentBlock(tuple(files), **dict(zip(_OTHERS, others, strict=True)))


def _held(data: bytes, others: HeldBlock) -> HeldBlock:
    return replace(others, data=data)


def _build(base: bytes, others: SegmentBuild) -> SegmentBuild:
    return replace(others, base=base)


def _built(data: Sequence[bytes], rows: Sequence[bytes], others: BuiltFiles) -> BuiltFiles:
    return replace(others, data=tuple(data), rows=tuple(rows))
