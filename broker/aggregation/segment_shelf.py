"""The files of segments that a worker process has open: mapped, checked once, and with one numbering of values.

Opening a file costs far more than reading a few rows of it, and segments never change, so files stay open, within
bounds. Dimensions of all files of a rollup are numbered alike (a :class:`Lexicon` each), so rows of many files are
filtered and grouped together by numbers, and text is looked at once per value, not once per row.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.aggregation import segment_file
from broker.aggregation.refusals import unreadable
from broker.aggregation.segment_file import Mask
from broker.domain.plan import LocalFile

Codes = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]
_MAPPED_BYTES = 1 << 18
"""Smaller files are read as a whole: a mapping holds a file descriptor."""
_MAX_FILES = 4096
_MAX_MAPPED = 256
_MAX_HELD = 64 << 20
_MAX_WORDS = 1 << 20


_Version = tuple[int, int]
"""When a file was written, in nanoseconds, and its size."""


class Lexicon:
    """Numbers of the values of one dimension; null is 0."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {None: 0}
        self._listed: list[object] = [None]
        self._values = pl.Series(dtype=pl.Null())

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def values(self) -> pl.Series:
        """The values by number."""
        return self._values

    @property
    def listed(self) -> Sequence[object]:
        """The same as plain values."""
        return self._listed

    def numbered(self, dictionary: pl.Series) -> Codes | None:
        """Our number of every value of a file's dictionary; None when they are its positions."""
        values, fresh = dictionary.to_list(), []
        keys = ["NaN" if value != value else value for value in values]  # noqa: PLR0124 - only NaN differs from itself
        for position, key in enumerate(keys):
            if key not in self._numbers:
                self._numbers[key] = len(self._numbers)
                self._listed.append(values[position])
                fresh.append(position)
        if not len(self._values):
            self._values = dictionary.head(1)
        if fresh:
            self._values = pl.concat([self._values, dictionary.gather(fresh)], rechunk=True)
        found = np.array([self._numbers[key] for key in keys], np.int32)
        return None if np.array_equal(found, np.arange(len(found))) else found


class OpenFile:
    """One file. Columns become series when they are first asked for."""

    def __init__(self, data: Any, path: str) -> None:
        self._batch, self.buckets = segment_file.decode(data)
        self.path = path
        self._columns: dict[str, pl.Series] = {}
        self._numbers: dict[str, Numbers | None] = {}
        self._known: dict[str, Mask | None] = {}
        self._largest: dict[str, int] = {}
        self._codes: dict[int, tuple[Lexicon, Codes]] = {}
        self.mapped = isinstance(data, mmap.mmap)
        self.held = 0 if self.mapped else len(data)

    def column(self, name: str) -> pl.Series:
        """A column of states."""
        found = self._columns.get(name)
        if found is None:
            position = self._batch.schema.get_field_index(name)
            if position < 0:
                raise unreadable(self.path, f"it has no column {name}")
            found = self._columns[name] = segment_file.series_of(self._batch.column(position), name)
        return found

    def numbers(self, name: str) -> Numbers | None:
        """A column of integers or doubles with 0 for null; None when it is no such column."""
        if name not in self._numbers:
            kind = segment_file.NUMBERS.get(self.column(name).dtype)
            array = self._batch.column(self._batch.schema.get_field_index(name))
            held = None if kind is None else np.frombuffer(array.buffers()[1], kind, len(array))
            self._numbers[name] = held
        return self._numbers[name]

    def known(self, name: str) -> Mask | None:
        """Which values of a column are not null; None when all are."""
        if name not in self._known:
            series = self.column(name)
            self._known[name] = series.is_not_null().to_numpy() if series.null_count() else None
            self.held += len(series) if self._known[name] is not None else 0
        return self._known[name]

    def largest(self, name: str) -> int:
        """The size of the largest number in a column of integers."""
        if name not in self._largest:
            ends = [self.column(name).min(), self.column(name).max()]
            self._largest[name] = max(abs(end) if isinstance(end, int) else 0 for end in ends)
        return self._largest[name]

    def codes(self, position: int, name: str, lexicon: Lexicon) -> Codes:
        """The numbers of a dimension, by its position among the stored ones."""
        known, found = self._codes.get(position, (None, None))
        if found is None or known is not lexicon:
            if self._batch.schema.names[1 + position] != name:
                raise unreadable(self.path, f"its column {1 + position} is not {name}")
            array = self._batch.column(1 + position)
            # As numpy sees it: Arrow's own way to numpy would import pandas, where it is installed.
            codes: Codes = np.frombuffer(array.indices.buffers()[1], np.int32, len(array))
            numbers = lexicon.numbered(segment_file.series_of(array.dictionary, name))
            found = codes if numbers is None else numbers.take(codes)
            self.held += 0 if numbers is None else found.nbytes
            self._codes[position] = lexicon, found
        return found


class Shelf:
    """Open files by path, those used least recently dropped first; lexicons by directory and dimension."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[_Version, OpenFile]] = {}
        self._fresh = False
        self._lexicons: dict[tuple[str, str], Lexicon] = {}

    def __len__(self) -> int:
        return len(self._files)

    def trim(self) -> None:
        """Keeps within bounds. Between queries only: the numbers of one query must come from the same lexicons."""
        if not self._fresh:
            return
        self._fresh = False
        if sum(map(len, self._lexicons.values())) > _MAX_WORDS:
            self._files.clear()
            self._lexicons.clear()
        for path in [
            path for path, (_, file) in self._files.items() if file.mapped and not Path(path).exists()
        ]:
            del self._files[path]  # a mapped file takes room on the disk for as long as it is mapped
        held = sum(file.held for _, file in self._files.values())
        mapped = sum(file.mapped for _, file in self._files.values())
        while len(self._files) > _MAX_FILES or held > _MAX_HELD or mapped > _MAX_MAPPED:
            _, dropped = self._files.pop(next(iter(self._files)))
            held -= dropped.held
            mapped -= dropped.mapped

    def lexicon(self, files: str, dimension: str) -> Lexicon:
        """The numbering of a dimension in the files of one directory."""
        found = self._lexicons.get((files, dimension))
        if found is None:
            found = self._lexicons[files, dimension] = Lexicon()
        return found

    def open(self, file: LocalFile) -> OpenFile:
        """The file, opened now or before.

        Raises:
            BrokerError: STORE_REJECTED when it is missing, or not what it should be.
        """
        try:
            seen = os.stat(file.path)  # noqa: PTH116 - hundreds of files in a query: no objects for their paths
        except OSError as error:
            raise unreadable(file.path, str(error)) from error
        version = (seen.st_mtime_ns, seen.st_size)
        known, found = self._files.pop(file.path, (None, None))
        if found is None or known != version:
            found, self._fresh = _opened(file), True
        self._files[file.path] = version, found
        return found


def _opened(file: LocalFile) -> OpenFile:
    try:
        data = _data(file.path)
        if file.sha256 and hashlib.sha256(data).hexdigest() != file.sha256:
            raise unreadable(file.path, "its checksum differs")
        return OpenFile(data, file.path)
    except (OSError, ValueError) as error:
        raise unreadable(file.path, str(error)) from error


def _data(path: str) -> bytes | mmap.mmap:
    with Path(path).open("rb") as opened:
        if os.fstat(opened.fileno()).st_size < _MAPPED_BYTES:
            return opened.read()
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)


@cache
def shelf() -> Shelf:
    """The shelf of this worker process: it serves one request at a time, and nobody else sees it."""
    return Shelf()
