"""States of a scan from files of a rollup: rows are picked by bucket, filtered and grouped by the numbers of values.

One row per key comes out, as a source of rows would return it, so that everything after works the same. Rows are taken
in portions that fit the processor's cache. Text is touched once per value, sketches once per group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import polars as pl

from broker.aggregation import frames, states
from broker.aggregation.measures import state_columns
from broker.aggregation.refusals import unreadable
from broker.aggregation.segment_dense import Dense, Values, mergeable
from broker.aggregation.segment_file import Mask, Positions
from broker.aggregation.segment_filter import Test, compiled, passing
from broker.aggregation.segment_pick import Picked, pick
from broker.aggregation.segment_shelf import Codes, Lexicon, OpenFile, Shelf, shelf
from broker.domain.measures import SKETCHES
from broker.domain.plan import BUCKET, Leaf, SegmentBlock, key_name
from broker.domain.query import conditions

_PORTION = 1 << 17
_ROOM = 1 << 12
_LONG = 1 << 12
"""So many rows are a slice that is worth a look of its own; shorter ones are copied together first."""
_LARGEST_KEY = 1 << 62
Slices = Sequence[tuple[OpenFile, int, int]]
"""Rows of files, from one up to another."""


def read(block: SegmentBlock) -> pl.DataFrame:
    """One row of states per key: ``bucket`` when the block has a grid, ``k0, k1, …``, then the states.

    Raises:
        BrokerError: STORE_REJECTED when a file is missing or not what it should be (``segment`` in the metadata is its
            path), or when a sum leaves the range of its type.
    """
    files = shelf()
    files.trim()
    grid = np.frombuffer(block.starts, "<i8").astype(np.int64, copy=False)
    picked = pick(block.files, block.spans, grid, files.open)
    lexicons = _lexicons(block, files, picked.files)
    sizes = [*([len(grid)] if len(grid) else []), *(len(lexicons[name]) for name in block.keys)]
    test = None
    if block.filter is not None and picked.files:
        test = compiled(block.filter, {dimension.name: dimension for dimension in block.stored}, lexicons)
    reading = _Reading(block, lexicons, sizes, test)
    keys, columns = reading.grouped(picked)
    if sizes:
        return pl.DataFrame([*_valued(keys, block, lexicons), *columns])
    return states.merge(pl.DataFrame(columns), [], block.leaves)  # one row, also of nothing


def _lexicons(block: SegmentBlock, shelf: Shelf, files: Sequence[OpenFile]) -> Mapping[str, Lexicon]:
    """The numberings of the dimensions that are grouped or filtered by, complete for these files."""
    names = dict.fromkeys([*block.keys, *(condition.member for _, condition in conditions(block.filter))])
    directory = block.files[0].path.rpartition("/")[0] if block.files else ""
    found = {name: shelf.lexicon(directory, name) for name in names}
    positions = {dimension.name: i for i, dimension in enumerate(block.stored)}
    for name, lexicon in found.items():
        for file in files:
            file.codes(positions[name], name, lexicon)
    return found


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows: where they are, their keys (a number, or several), and which of them pass (None: all).

    Where rows are grouped by time alone, ``keys`` are those of runs of rows, the first of which are ``firsts``.
    """

    slices: Slices
    keys: list[Positions]
    kept: Positions | None = None
    firsts: Positions | None = None
    count: int = 0


class _Reading:
    """How rows are grouped: by one number where the keys' numbers fold into one, else by all of them."""

    def __init__(
        self, block: SegmentBlock, lexicons: Mapping[str, Lexicon], sizes: Sequence[int], test: Test | None
    ) -> None:
        self._block = block
        self._positions = {dimension.name: i for i, dimension in enumerate(block.stored)}
        self._lexicons = lexicons
        self._sizes = sizes or [1]
        self._test = test
        self._size = prod(sizes)
        self._folds = self._size < _LARGEST_KEY
        self._by_time = not block.keys and test is None

    def grouped(self, picked: Picked) -> tuple[list[Positions], list[pl.Series]]:
        """The numbers of the keys of every group, and its states in order."""
        leaves = self._block.leaves
        count = int((picked.last - picked.first).sum())
        few = self._folds and self._size <= 4 * count + _ROOM
        numbers = [leaf for leaf in leaves if few and mergeable(leaf, picked.files, count)]
        merged = [leaf for leaf in leaves if leaf not in numbers]
        dense = Dense(numbers, self._size) if numbers else None
        buckets = self._sizes[0] if self._block.starts else 1
        step = max(_PORTION, self._size // buckets if dense is not None else 0)
        parts = []
        for rows in self._portions(picked, step):
            if dense is not None:
                _take(dense, rows)
            if merged or dense is None:
                parts.append(self._merged(rows, merged))
        if dense is None:
            together = self._together(parts, merged)
            names = self._names()
            found = [together.get_column(name).to_numpy() for name in names]
            return self._unfolded(found), together.get_columns()[len(names) :]
        keys, columns = dense.found()
        if parts:
            rest = self._together(parts, merged).sort(self._names())
            columns.update({series.name: series for series in rest.get_columns()[1:]})
        ordered = [columns[column] for leaf in leaves for column in state_columns(leaf)]
        return self._unfolded([keys]), ordered

    def _portions(self, picked: Picked, step: int) -> Iterator[_Rows]:
        """The rows in the order of time, about ``step`` at once; one empty portion when there are none."""
        file, first, last, position = _pieces(picked, step)
        lengths = last - first
        ends = np.cumsum(lengths)
        begin = 0
        while begin < len(ends) or not begin:
            done = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + step, side="right")))
            part = slice(begin, end)
            slices = _slices(picked.files, file[part], first[part], last[part])
            yield self._rows(slices, position[part], lengths[part])
            begin = end

    def _rows(self, slices: Slices, position: Positions, lengths: Positions) -> _Rows:
        if not self._block.starts:
            position = np.zeros(len(lengths), np.int64)
        count = int(lengths.sum())
        if self._by_time:
            return _Rows(slices, [position], None, np.cumsum(lengths) - lengths, count)
        codes = {name: self._codes(name, slices) for name in self._lexicons}
        keys: list[Positions | Codes] = [codes[name] for name in self._block.keys]
        if self._block.starts or not keys:
            keys.insert(0, np.repeat(position, lengths))
        kept = None if self._test is None else passing(self._test, codes, count)
        if kept is not None:
            keys = [numbers[kept] for numbers in keys]
        wide = [numbers.astype(np.int64, copy=False) for numbers in keys]
        if self._folds:
            total = wide[0]
            for numbers, size in zip(wide[1:], self._sizes[1:], strict=True):
                total = total * size + numbers
            wide = [total]
        return _Rows(slices, wide, kept, None, count)

    def _codes(self, name: str, slices: Slices) -> Codes:
        lexicon, position = self._lexicons[name], self._positions[name]
        parts = [file.codes(position, name, lexicon)[first:last] for file, first, last in slices]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])

    def _names(self) -> list[str]:
        return [f"!{i}" for i in range(1 if self._folds else len(self._sizes))]

    def _merged(self, rows: _Rows, leaves: Sequence[Leaf]) -> pl.DataFrame:
        numbers = rows.keys
        if rows.firsts is not None:
            numbers = [np.repeat(numbers[0], np.diff(rows.firsts, append=rows.count))]
        keys = [pl.Series(name, numbers) for name, numbers in zip(self._names(), numbers, strict=True)]
        if not self._block.keys:
            keys = [keys[0].set_sorted()]  # buckets come in the order of time
        columns = [series for leaf in leaves for series in _states(leaf, rows)]
        return states.merge(pl.DataFrame([*keys, *columns]), self._names(), leaves)

    def _together(self, parts: Sequence[pl.DataFrame], leaves: Sequence[Leaf]) -> pl.DataFrame:
        return parts[0] if len(parts) == 1 else states.merge(pl.concat(parts), self._names(), leaves)

    def _unfolded(self, numbers: list[Positions]) -> list[Positions]:
        if not self._folds:
            return numbers
        (total,) = numbers
        found: list[Positions] = []
        for size in reversed(self._sizes[1:]):
            total, rest = np.divmod(total, size)
            found.insert(0, rest)
        return [total, *found]


def _pieces(picked: Picked, most: int) -> tuple[Positions, Positions, Positions, Positions]:
    """The runs of rows in pieces of at most so many: their file, first and last rows, and position in the grid."""
    pieces = -(-(picked.last - picked.first) // most)
    run = np.repeat(np.arange(len(pieces)), pieces)
    first = picked.first[run] + (np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * most
    return picked.file[run], first, np.minimum(first + most, picked.last[run]), picked.position[run]


def _slices(files: Sequence[OpenFile], file: Positions, first: Positions, last: Positions) -> Slices:
    """The rows of buckets, those that follow each other in a file together."""
    breaks = np.flatnonzero((file[1:] != file[:-1]) | (first[1:] != last[:-1])) + 1
    begin = np.append(0, breaks)[: len(file)]
    end = np.append(breaks, len(file))[: len(file)] - 1
    numbers = zip(file[begin].tolist(), first[begin].tolist(), last[end].tolist(), strict=True)
    return [(files[number], one, two) for number, one, two in numbers]


def _take(dense: Dense, rows: _Rows) -> None:
    (keys,) = rows.keys
    if not len(keys):
        return
    low = int(keys.min())  # keys ascend with time: these rows are in a small part of them
    place, keys = slice(low, int(keys.max()) + 1), keys - low
    long = rows.count >= _LONG * len(rows.slices)
    runs = () if rows.firsts is None else _by_slice(rows, rows.firsts) if long else (rows.firsts,)
    kept = None if rows.kept is None or not long else _by_slice(rows, rows.kept)
    for column in dense.columns:
        held = [(file.numbers(column), first, last) for file, first, last in rows.slices]
        parts: list[Any] = [numbers[first:last] for numbers, first, last in held if numbers is not None]
        if kept is not None:
            parts = [part[own] for part, own in zip(parts, kept, strict=True)]
        known = _known(column, rows)
        numbers = dense.numbers(column, parts, known, runs)
        if rows.kept is not None and kept is None:
            numbers = numbers[rows.kept]
        dense.take(column, Values(place, keys, numbers, known, rows.firsts))
    dense.meet(place, keys)


def _by_slice(rows: _Rows, positions: Positions) -> Sequence[Positions]:
    """Some of the rows, in ascending order, by slice, and counted from its first."""
    ends = np.cumsum([last - first for _, first, last in rows.slices])
    parts = np.split(positions, np.searchsorted(positions, ends[:-1]))
    return [own - begin for own, begin in zip(parts, [0, *ends[:-1].tolist()], strict=True)]


def _known(column: str, rows: _Rows) -> Mask | None:
    """Which rows have a value that is not null; None when all have."""
    held = [(file.known(column), first, last) for file, first, last in rows.slices]
    if all(known is None for known, _, _ in held):
        return None
    parts = [
        np.ones(last - first, np.bool_) if known is None else known[first:last] for known, first, last in held
    ]
    found: Mask = np.concatenate(parts)
    return found if rows.kept is None else found[rows.kept]


def _states(leaf: Leaf, rows: _Rows) -> list[pl.Series]:
    """The columns of a leaf, in chunks that share the files' memory."""
    found = []
    for column, state in zip(state_columns(leaf), leaf.states, strict=True):
        kind = pl.Binary() if leaf.measure.kind in SKETCHES else frames.dtype(state.type, state.scale)
        parts = [pl.Series(column, [], kind)]
        for file, first, last in rows.slices:
            part = file.column(column)
            if part.dtype != kind:
                raise unreadable(file.path, f"its column {column} holds {part.dtype}")
            parts.append(part.slice(first, last - first))
        series = pl.concat(parts[1:]) if len(parts) > 1 else parts[0]
        found.append(series if rows.kept is None else series.gather(rows.kept))
    return found


def _valued(
    keys: list[Positions], block: SegmentBlock, lexicons: Mapping[str, Lexicon]
) -> Iterator[pl.Series]:
    """The key columns with the values that the numbers stand for."""
    if block.starts:
        yield pl.Series(BUCKET, keys[0], pl.Int64())
    stored = {dimension.name: dimension for dimension in block.stored}
    for i, (name, numbers) in enumerate(zip(block.keys, keys[bool(block.starts) :], strict=True)):
        if len(numbers):
            yield lexicons[name].values.gather(numbers).alias(key_name(i))
        else:
            kind = frames.dtype(stored[name].type, stored[name].scale)
            yield pl.Series(key_name(i), [], kind)
