"""One grain of a segment as an Arrow IPC file, made to be mapped into memory and read without a look at every row.

Columns: ``t`` (start of the bucket in microseconds), the stored dimensions by name, then ``{measure}.{state}``. Rows
are sorted by ``t``, then by the dimensions, null first. Dimensions are dictionary-encoded, with ascending dictionaries
whose first entry is null. States are as in frames, with 0 behind the nulls of numbers, so that they can be added
without a look; sketches and text are views, which need no copy either. Nothing is compressed: pages of a mapped file
are shared by all workers, and only those that a query touches are read.

The schema's metadata holds every bucket of the file, empty ones too, with its rows: a reader knows from it what the
file covers, and where that is.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from broker.domain.plan import key_name
from broker.domain.rollup import LAYOUT

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
START = "t"
NUMBERS: Mapping[pl.DataType, np.dtype[Any]] = {
    pl.Int64(): np.dtype(np.int64),
    pl.Float64(): np.dtype(np.float64),
}
"""Types of states that can be added as they lie in a file."""
_BUCKETS = b"broker.segment.%d" % LAYOUT
"""Key of the metadata: another layout is not read."""
_NEWEST = pl.CompatLevel.newest()


@dataclass(frozen=True, slots=True)
class Extent:
    """Where buckets lie: ``count`` of them, with so many ``rows``, from ``lo`` to ``hi``.

    ``breaks`` are the starts of those that do not begin where another ends. ``width`` is 0 when there are several
    breaks, or buckets that are not as wide as the others.
    """

    lo: int
    hi: int
    count: int
    rows: int
    width: int
    breaks: Positions

    @classmethod
    def of(cls, starts: Positions, ends: Positions, rows: int) -> Extent:
        """The extent of one bucket or more."""
        breaks = starts[np.append(True, starts[1:] != ends[:-1])]
        widths = ends - starts
        even = len(breaks) == 1 and bool((widths == widths[0]).all())
        return cls(int(starts[0]), int(ends[-1]), len(starts), rows, int(widths[0]) if even else 0, breaks)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Disjoint buckets in ascending order; the rows of bucket ``i`` are ``rows[i]`` up to ``rows[i + 1]``."""

    starts: Positions
    ends: Positions
    rows: Positions
    _extent: Extent | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, starts: Positions, ends: Positions, times: Positions) -> Buckets:
        """The buckets of rows that are sorted by time and all lie in one."""
        inner = np.searchsorted(times, starts, side="left")
        return cls(starts, ends, np.append(inner, len(times)).astype(np.int64))

    @property
    def extent(self) -> Extent:
        """Where they lie; there must be some. Computed when it is first asked for."""
        if self._extent is None:
            object.__setattr__(self, "_extent", Extent.of(self.starts, self.ends, int(self.rows[-1])))
        assert self._extent is not None
        return self._extent


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """Rows of one grain: ``frame`` has ``t``, ``k0, k1, …`` as positions in ``dictionaries``, then the states."""

    frame: pl.DataFrame
    dictionaries: tuple[pl.Series, ...]
    buckets: Buckets


def encode(segment: SegmentFrame, names: Sequence[str]) -> bytes:
    """The file; ``names`` are those of the dimensions."""
    columns = [series.rechunk() for series in segment.frame.get_columns()]
    first = 1 + len(names)
    arrays: list[pa.Array] = [columns[0].to_arrow()]
    for codes, dictionary in zip(columns[1:first], segment.dictionaries, strict=True):
        values = dictionary.rechunk().to_arrow(compat_level=_NEWEST)
        arrays.append(pa.DictionaryArray.from_arrays(codes.to_arrow(), values))
    arrays += [_stored(series) for series in columns[first:]]
    fields = [START, *names, *segment.frame.columns[first:]]
    schema = pa.schema(
        [pa.field(name, array.type) for name, array in zip(fields, arrays, strict=True)],
        {_BUCKETS: _packed(segment.buckets)},
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return bytes(sink.getvalue().to_pybytes())


def _stored(series: pl.Series) -> pa.Array:
    """A column of states; there is no telling what is behind the nulls of a series."""
    array = series.to_arrow(compat_level=_NEWEST)
    if not series.null_count() or series.dtype not in NUMBERS:
        return array
    filled = series.fill_null(0).rechunk().to_arrow()
    valid = np.packbits(series.is_not_null().to_numpy(), bitorder="little")
    return pa.Array.from_buffers(array.type, len(array), [pa.py_buffer(valid), filled.buffers()[1]])


def decode(data: Any) -> tuple[pa.RecordBatch, Buckets]:
    """The rows and buckets of a file, which share its memory.

    Raises:
        ValueError: It is no such file.
    """
    try:
        reader = pa.ipc.open_file(pa.py_buffer(data))
        batch = reader.get_batch(0)
        buckets = _unpacked(reader.schema.metadata[_BUCKETS])
    except (pa.ArrowException, OSError, KeyError, TypeError, zlib.error, ValueError) as error:
        raise ValueError(f"not a segment file: {error}") from error
    if reader.num_record_batches != 1 or buckets.rows[-1] != batch.num_rows:
        raise ValueError(f"{batch.num_rows} rows in place of {buckets.rows[-1]}")
    return batch, buckets


def frame(data: Any, names: Sequence[str]) -> pl.DataFrame:
    """The rows of a file as ``t``, ``k0, k1, …`` with their values, and the states.

    Raises:
        ValueError: It is no such file, or its dimensions are others.
    """
    batch, _ = decode(data)
    count = 1 + len(names)
    if batch.schema.names[:count] != [START, *names]:
        raise ValueError(f"the columns are {batch.schema.names}")
    columns = [series_of(batch.column(0), START)]
    for i in range(len(names)):
        array = batch.column(1 + i)
        values, codes = series_of(array.dictionary, key_name(i)), series_of(array.indices, "")
        columns.append(values.gather(codes))
    columns += [series_of(batch.column(i), batch.schema.names[i]) for i in range(count, batch.num_columns)]
    return pl.DataFrame(columns)


def series_of(array: pa.Array, name: str) -> pl.Series:
    """An Arrow array as a series, without a copy where both agree on the layout."""
    found = pl.from_arrow(array)
    assert isinstance(found, pl.Series)
    return found.alias(name)


def _packed(buckets: Buckets) -> bytes:
    numbers = np.concatenate([buckets.starts, buckets.ends, buckets.rows]).astype("<i8")
    return b64encode(zlib.compress(np.diff(numbers, prepend=0).tobytes(), 1))


def _unpacked(packed: bytes) -> Buckets:
    numbers = np.cumsum(np.frombuffer(zlib.decompress(b64decode(packed)), "<i8"))
    count = (len(numbers) - 1) // 3
    return Buckets(numbers[:count], numbers[count : 2 * count], numbers[2 * count :])
