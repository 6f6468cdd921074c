"""The states of a scan, whatever brought them: rows, text of a COPY, files of a rollup, or a held answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from broker.aggregation import frames, held, measures, segments, sketches, states
from broker.domain.measures import SKETCHES
from broker.domain.plan import BUCKET, Block, Finish, HeldBlock, Leaf, ScanResult, SegmentBlock, key_name
from broker.domain.values import DataType

KeyColumn = tuple[str, DataType, int]
"""Name, type and scale of a key."""


def read(block: Block) -> pl.DataFrame:
    """The rows of a block of states, in which sketches are Binary columns.

    Raises:
        BrokerError: STORE_REJECTED for a value that its column's type cannot hold, or a file that is not what it
            should be.
    """
    match block:
        case SegmentBlock():
            return segments.read(block)
        case HeldBlock():
            return held.read(block)
        case _:
            return frames.read(block)


def keys(finish: Finish) -> list[str]:
    """Names of the key columns."""
    return [name for name, _, _ in typed_keys(finish)]


def typed_keys(finish: Finish) -> list[KeyColumn]:
    """The key columns: the bucket, when there is a grid, then the dimensions."""
    bucket = finish.grid is not None
    dimensions = [(key_name(i), c.type, c.scale) for i, c in enumerate(finish.keys[bucket:])]
    return [(BUCKET, DataType.INT64, 0), *dimensions] if bucket else dimensions


def concat(blocks: Sequence[Block], keys: Iterable[KeyColumn], leaves: Sequence[Leaf]) -> pl.DataFrame:
    """The rows of all blocks; the schema alone when there are none."""
    if blocks:
        read_blocks = [read(block) for block in blocks]
        return pl.concat(read_blocks, how="diagonal") if len(read_blocks) > 1 else read_blocks[0]
    columns = [
        (name, state.type, state.scale)
        for leaf in leaves
        if leaf.measure.kind not in SKETCHES
        for name, state in zip(measures.state_columns(leaf), leaf.states, strict=True)
    ]
    return frames.empty([*keys, *columns])


def merged(result: ScanResult, keys: Sequence[KeyColumn], leaves: Sequence[Leaf]) -> pl.DataFrame:
    """The states of a scan, one row per key, with the sketches that only a kernel can build."""
    names = [name for name, _, _ in keys]
    parts = [concat(result.grouped, keys, leaves)]
    for leaf in leaves:
        if leaf.measure.kind in SKETCHES:
            blocks = result.values.get(leaf.measure.name, ())
            (column,) = measures.state_columns(leaf)
            if blocks:
                counted = pl.concat([read(block) for block in blocks])
                parts.append(sketches.build(counted, names, leaf))
            elif column not in parts[0].columns:
                parts.append(pl.DataFrame(schema={column: pl.Binary()}))
    if len(parts) == 1 and len(result.grouped) == 1 and isinstance(result.grouped[0], SegmentBlock):
        return parts[0]  # it has one row per key, in order
    together = parts[0] if len(parts) == 1 else pl.concat(parts, how="diagonal")
    return states.merge(together, names, leaves)
