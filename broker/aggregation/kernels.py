"""From partial states to the rows of an answer. Pure: no clock, no input or output.

The steps are those of :class:`broker.domain.plan.Finish`. Sketches apart, the answer does not depend on how the states
were cut into blocks. Frames that leave this module hold the answer's columns by position, as ``c0``, ``c1`` and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from broker.aggregation import calculations as calc
from broker.aggregation import frames, gather, measures, states
from broker.aggregation.having import predicate
from broker.aggregation.physical import beginning
from broker.aggregation.rolling import roll
from broker.domain.plan import BUCKET, Block, Finish, HeldBlock, Leaf, ScanResult, SegmentBlock
from broker.domain.values import Column, ColumnRole


def answer(results: Sequence[ScanResult], finish: Finish) -> pl.DataFrame:
    """The rows of an answer, in its columns and its order.

    Raises:
        BrokerError: STORE_REJECTED for values out of range, RESULT_TOO_LARGE when gap filling makes too many rows.
    """
    if finish.pushed_down:
        keys = gather.keys(finish)
        rows = gather.concat(results[0].grouped, gather.typed_keys(finish), finish.leaves)
        return _labelled(states.finish(rows, keys, finish.leaves, finish.outputs), finish)
    return finished(merged(results, finish), finish)


def merged(results: Sequence[ScanResult], finish: Finish) -> list[pl.DataFrame]:
    """The states of every scan, one row per key."""
    keys = gather.typed_keys(finish)
    leaves = [finish.leaves, compared(finish)]
    return [gather.merged(result, keys, own) for result, own in zip(results, leaves, strict=False)]


def finished(scans: list[pl.DataFrame], finish: Finish) -> pl.DataFrame:
    """The rows of an answer from merged states of its scans. Raises as :func:`answer` does."""
    keys = gather.keys(finish)
    leaves = [finish.leaves, compared(finish)]
    top = finish.calculations.top_n
    if top is not None:
        kept = calc.rank(scans[0], top, finish)
        scans = [calc.keep(scan, kept, other=top.other) for scan in scans]
        if top.other:
            keys = [*keys, calc.OTHER]
            scans = [states.merge(scan, keys, own) for scan, own in zip(scans, leaves, strict=False)]
    rows = states.finish(scans[0], keys, finish.leaves, finish.outputs)
    if finish.lead:
        rows = rows.filter(pl.col(BUCKET) >= finish.lead)
    if finish.gap_fill:
        rows = calc.fill_gaps(rows, keys, finish)
    if finish.calculations.compare_to is not None:
        outputs = [o for o in finish.outputs if o.column.name in calc.compared(finish)]
        rows = calc.compare(rows, states.finish(scans[1], keys, leaves[1], outputs), keys, finish)
    added = [calc.share(rows, wanted, finish) for wanted in finish.calculations.shares]
    added += [roll(rows, scans[0], keys, window, finish) for window in finish.calculations.rolling]
    return _labelled(_limited(rows.with_columns(added), keys, finish), finish)


def rows(block: Block, finish: Finish | None, columns: Sequence[Column]) -> pl.DataFrame:
    """One block of a pushed-down plan, finished row by row; without a finish, a block of SQL rows as it is."""
    if finish is None:
        assert not isinstance(block, SegmentBlock | HeldBlock)
        return frames.read(block, [f"c{i}" for i in range(len(columns))])
    states_read = gather.read(block)
    return _labelled(states.finish(states_read, gather.keys(finish), finish.leaves, finish.outputs), finish)


def compared(finish: Finish) -> tuple[Leaf, ...]:
    """The leaves that the comparison scan holds."""
    names = {
        name
        for output in finish.outputs
        if output.column.name in calc.compared(finish)
        for name in output.ratio or (output.column.name,)
    }
    return tuple(leaf for leaf in finish.leaves if leaf.measure.name in names)


def _limited(rows: pl.DataFrame, keys: Sequence[str], finish: Finish) -> pl.DataFrame:
    """The rows that pass having, in total order, as many as asked for."""
    if finish.having is not None:
        rows = rows.filter(
            predicate(finish.having, {c.name: c for c in finish.columns}).fill_null(value=False)
        )
    order = [(_source(key.member, finish), key.descending, key.nulls_first) for key in finish.order]
    order += [(key, False, False) for key in keys if key not in {name for name, _, _ in order}]
    if order:
        names, descending, nulls_first = zip(*order, strict=True)
        rows = rows.sort(names, descending=descending, nulls_last=[not first for first in nulls_first])
    return rows.head(finish.limit) if finish.limit else rows


def _source(name: str, finish: Finish) -> str:
    """The internal column behind a column of the answer."""
    if name in [column.name for column in finish.keys]:
        return calc.dimension_key(finish, name)
    top = finish.calculations.top_n
    if top is not None and top.other and name == f"{top.dimension}__other":
        return calc.OTHER
    return measures.value_name(name)


def _labelled(rows: pl.DataFrame, finish: Finish) -> pl.DataFrame:
    """The answer's columns in order, with the beginnings of buckets in place of their positions."""
    found = [rows.get_column(_source(column.name, finish)) for column in finish.columns]
    if finish.grid is not None:
        for i, column in enumerate(finish.columns):
            if column.role is ColumnRole.TIME_BUCKET:
                starts = [beginning(finish.grid, p, column.type) for p in range(len(finish.grid.starts))]
                found[i] = pl.Series(starts, dtype=pl.Int64()).gather(found[i])
    return pl.DataFrame([series.alias(f"c{i}") for i, series in enumerate(found)], height=rows.height)
