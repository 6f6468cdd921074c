"""Tiny answers, finished on the event loop: the kernels' twin in plain Python for rows that need no merge.

A few dozen rows are finished and encoded in less time than a worker process takes to answer, and without Polars in this
process. The twin gives byte for byte what the kernels give; a property test compares the two. What it cannot do it
leaves alone by returning None: then a worker does it, and also finds the words for values out of range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, TypeGuard

from broker.aggregation import plain_encode
from broker.aggregation.physical import beginnings
from broker.aggregation.three_valued import compile_filter, sortable
from broker.domain.measures import SKETCHES
from broker.domain.model import MeasureKind
from broker.domain.plan import BUCKET, Block, Columns, Finish, Leaf, Rows, ScanResult, key_name, state_name
from broker.domain.values import Column, ColumnRole, ResultFormat

MAX_CELLS = 2_000
"""Largest number of rows times columns that is finished here; about 1 ms."""

Values = Sequence[Any]
COUNTS = frozenset({MeasureKind.COUNT, MeasureKind.EXACT_DISTINCT})


def table(results: Sequence[ScanResult], finish: Finish, encoding: ResultFormat) -> tuple[int, bytes] | None:
    """Row count and serialized table of a small result, or None."""
    if len(results) != 1 or len(results[0].grouped) != 1 or not finish.calculations.empty or finish.gap_fill:
        return None
    columns = _finished(results[0].grouped[0], finish, encoding)
    return None if columns is None else plain_encode.table(columns, finish.columns)


def batch(
    block: Block, finish: Finish | None, columns: Sequence[Column], encoding: ResultFormat
) -> tuple[int, bytes] | None:
    """Row count and serialized batch of a small block, or None."""
    if finish is None:
        found = block.values if _small(block, encoding) else None
    else:
        found = _finished(block, finish, encoding)
    return None if found is None else plain_encode.row_batch(found, columns)


def _small(block: Block, encoding: ResultFormat) -> TypeGuard[Rows | Columns]:
    if encoding is not ResultFormat.COLUMNS or not isinstance(block, Rows | Columns):
        return False
    return block.count * len(block.columns) <= MAX_CELLS


def _finished(block: Block, finish: Finish, encoding: ResultFormat) -> list[Values] | None:
    """The answer's columns, or None when the block is not small, not of one row per key, or holds sketches."""
    if not _small(block, encoding) or any(leaf.measure.kind in SKETCHES for leaf in finish.leaves):
        return None
    found = dict(zip((column.name for column in block.columns), block.values, strict=True))
    count = block.count
    bucket = finish.grid is not None
    keys = [BUCKET] * bucket + [key_name(i) for i in range(len(finish.keys) - bucket)]
    named = {column.name: found[key] for column, key in zip(finish.keys, keys, strict=True)}
    if not finish.pushed_down and not _one_row_per_key(list(named.values()), count):
        return None
    values = {leaf.measure.name: _value(leaf, found) for leaf in finish.leaves}
    for output in finish.outputs:
        name = output.column.name
        named[name] = values[name] if output.ratio is None else _ratio(*(values[n] for n in output.ratio))
    chosen: Sequence[int] = range(count) if finish.pushed_down else _chosen(named, finish, count)
    return [_picked(named[column.name], chosen, column, finish) for column in finish.columns]


def _one_row_per_key(keys: Sequence[Values], count: int) -> bool:
    if not keys:
        return count == 1
    return len(set(keys[0] if len(keys) == 1 else zip(*keys, strict=True))) == count


def _value(leaf: Leaf, found: Mapping[str, Values]) -> Values:
    """The finished values of a leaf; see the table in :mod:`broker.domain.measures`."""
    columns = [found[state_name(leaf.measure.name, state.name)] for state in leaf.states]
    match leaf.measure.kind:
        case MeasureKind.AVG:
            return [None if not n or s is None else float(s) / n for n, s in zip(*columns, strict=True)]
        case MeasureKind.VARIANCE:
            return [_variance(n, m2) for n, _, m2 in zip(*columns, strict=True)]
        case MeasureKind.STDDEV:
            variances = (_variance(n, m2) for n, _, m2 in zip(*columns, strict=True))
            return [None if v is None else sqrt(v) for v in variances]
        case kind if kind in COUNTS:
            counts = columns[-1]
            return [v or 0 for v in counts] if None in counts else counts
        case _:
            return columns[-1]


def _variance(count: int | None, squares: float | None) -> float | None:
    return None if count is None or count < 2 or squares is None else squares / (count - 1)


def _ratio(above: Values, below: Values) -> Values:
    return [
        None if a is None or not b else float(a) / float(b)  # a ratio of doubles, as the kernels take it
        for a, b in zip(above, below, strict=True)
    ]


def _chosen(named: Mapping[str, Values], finish: Finish, count: int) -> Sequence[int]:
    """Positions of the rows that pass having, in total order, as many as asked for."""
    if not finish.order and finish.having is None and len(finish.keys) == 1:
        only = named[finish.keys[0].name]
        if finish.grid is not None and list(only) == sorted(only):  # buckets, which are never null
            return range(min(count, finish.limit or count))
    rows = list(range(count))
    if finish.having is not None:
        passes = compile_filter(finish.having, named)
        rows = [i for i in rows if passes(i)]
    given = [(key.member, key.descending, key.nulls_first) for key in finish.order]
    rest = [(key.name, False, False) for key in finish.keys if key.name not in {name for name, _, _ in given}]
    for name, descending, nulls_first in reversed([*given, *rest]):
        values = named[name]
        nulls_low = nulls_first is not descending

        def rank(i: int, values: Values = values, nulls_low: bool = nulls_low) -> tuple[bool, Any]:
            return (not nulls_low, (False, 0)) if values[i] is None else (nulls_low, sortable(values[i]))

        rows.sort(key=rank, reverse=descending)
    return rows[: finish.limit] if finish.limit else rows


def _picked(values: Values, chosen: Sequence[int], column: Column, finish: Finish) -> Values:
    every = isinstance(chosen, range) and len(chosen) == len(values)
    picked = values if every else [values[i] for i in chosen]
    if column.role is ColumnRole.TIME_BUCKET and finish.grid is not None:
        return beginnings(finish.grid, picked, column.type)
    return picked
