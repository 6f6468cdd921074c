"""States of a scan from files of a rollup: rows are picked by bucket, filtered and grouped by the numbers of values.

One row per key comes out, as a source of rows would return it, so that everything after works the same. The cost is a
few microseconds per file and some ten nanoseconds per row; text and sketches are touched once per value and group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.aggregation import frames, states
from broker.aggregation.measures import state_columns
from broker.aggregation.refusals import unreadable
from broker.aggregation.segment_file import Positions
from broker.aggregation.segment_filter import passing
from broker.aggregation.segment_pick import Picked, pick
from broker.aggregation.segment_shelf import Codes, Lexicon, OpenFile, Shelf, shelf
from broker.domain.measures import SKETCHES
from broker.domain.plan import BUCKET, Leaf, SegmentBlock, key_name
from broker.domain.query import conditions

_LARGEST_KEY = 1 << 62
_LARGEST_SHORT_KEY = 1 << 31
Slices = Sequence[tuple[OpenFile, int, int]]
"""Rows of files, from one up to another."""
Key = tuple[Positions | Codes, int]
"""A number per row, and how many different ones there may be."""


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
    slices = _slices(picked)
    lexicons = _lexicons(block, files)
    codes = _codes(block, slices, lexicons)
    keys: list[Key] = [(codes[name], len(lexicons[name])) for name in block.keys]
    if len(grid):
        keys.insert(0, (np.repeat(picked.position, picked.last - picked.first), len(grid)))
    found = [series for leaf in block.leaves for series in _states(leaf, slices)]
    if block.filter is not None and slices:
        stored = {dimension.name: dimension for dimension in block.stored}
        count = sum(last - first for _, first, last in slices)
        kept = passing(block.filter, stored, lexicons, codes, count)
        keys = [(numbers[kept], size) for numbers, size in keys]
        found = [series.filter(pl.Series(kept)) for series in found]
    folded = _folded(keys)
    if len(keys) == 1 and len(grid):
        folded = [folded[0].set_sorted()]  # buckets were picked in the order of time
    names = [series.name for series in folded]
    merged = states.merge(pl.DataFrame([*folded, *found]), names, block.leaves)
    return pl.DataFrame(
        [
            *_unfolded(merged.select(names), [size for _, size in keys], block, lexicons),
            *merged.get_columns()[len(names) :],
        ]
    )


def _slices(picked: Picked) -> Slices:
    """The rows of the buckets, those that follow each other in a file together."""
    some = picked.last > picked.first
    file, first, last = picked.file[some], picked.first[some], picked.last[some]
    breaks = np.flatnonzero((file[1:] != file[:-1]) | (first[1:] != last[:-1])) + 1
    begin = np.append(0, breaks)[: len(file)]
    end = np.append(breaks, len(file))[: len(file)] - 1
    numbers = zip(file[begin].tolist(), first[begin].tolist(), last[end].tolist(), strict=True)
    return [(picked.files[number], one, two) for number, one, two in numbers]


def _lexicons(block: SegmentBlock, files: Shelf) -> Mapping[str, Lexicon]:
    """The numberings of the dimensions that are grouped or filtered by."""
    names = dict.fromkeys([*block.keys, *(condition.member for _, condition in conditions(block.filter))])
    directory = block.files[0].path.rpartition("/")[0] if block.files else ""
    return {name: files.lexicon(directory, name) for name in names}


def _codes(block: SegmentBlock, slices: Slices, lexicons: Mapping[str, Lexicon]) -> Mapping[str, Codes]:
    positions = {dimension.name: i for i, dimension in enumerate(block.stored)}
    return {
        name: np.concatenate(
            [
                np.empty(0, np.int32),
                *(file.codes(positions[name], name, lexicon)[first:last] for file, first, last in slices),
            ]
        )
        for name, lexicon in lexicons.items()
    }


def _states(leaf: Leaf, slices: Slices) -> list[pl.Series]:
    """The columns of a leaf, in chunks that share the files' memory."""
    found = []
    for column, state in zip(state_columns(leaf), leaf.states, strict=True):
        kind = pl.Binary() if leaf.measure.kind in SKETCHES else frames.dtype(state.type, state.scale)
        parts = [pl.Series(column, [], kind)]
        for file, first, last in slices:
            part = file.column(column)
            if part.dtype != kind:
                raise unreadable(file.path, f"its column {column} holds {part.dtype}")
            parts.append(part.slice(first, last - first))
        found.append(pl.concat(parts) if len(parts) > 1 else parts[0])
    return found


def _folded(keys: Sequence[Key]) -> list[pl.Series]:
    """One number per row in place of several, which groups faster; several when one cannot hold them."""
    if not keys:
        return []
    count = prod(size for _, size in keys)
    if count >= _LARGEST_KEY:
        return [pl.Series(f"!{i}", numbers) for i, (numbers, _) in enumerate(keys)]
    kind = np.dtype(np.int32 if count < _LARGEST_SHORT_KEY else np.int64)
    total: npt.NDArray[np.integer[Any]] = keys[0][0].astype(kind, copy=False)
    for numbers, size in keys[1:]:
        total = np.add(np.multiply(total, size, dtype=kind), numbers, dtype=kind, casting="same_kind")
    return [pl.Series("!0", total)]


def _unfolded(
    folded: pl.DataFrame, sizes: Sequence[int], block: SegmentBlock, lexicons: Mapping[str, Lexicon]
) -> list[pl.Series]:
    """The key columns of grouped rows with their values."""
    if folded.width == len(sizes):
        numbers = [series.to_numpy() for series in folded.get_columns()]
    else:
        (total,) = (series.to_numpy() for series in folded.get_columns())
        numbers = []
        for size in reversed(sizes):
            total, rest = np.divmod(total, max(size, 1))
            numbers.insert(0, rest)
    stored = {dimension.name: dimension for dimension in block.stored}
    found = [pl.Series(BUCKET, numbers.pop(0), pl.Int64())] if block.starts else []
    for i, (name, codes) in enumerate(zip(block.keys, numbers, strict=True)):
        kind = frames.dtype(stored[name].type, stored[name].scale)
        values = lexicons[name].values
        found.append(
            values.gather(codes).alias(key_name(i)) if len(codes) else pl.Series(key_name(i), [], kind)
        )
    return found
