"""Rolling windows: the states of a row's bucket and the ones before it, merged by position in the grid, not by rows.

States are sorted by group and bucket, so that the rows of any window lie side by side and are found by bisection. Rows
are then repeated per window and merged by the one merge that there is: no running sums, whose rounding errors would
depend on what lies outside of the window. Windows are taken in portions to bound the memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.aggregation import states as algebra
from broker.aggregation.measures import state_columns, value_name
from broker.domain.plan import BUCKET, Finish, Leaf
from broker.domain.query import RollingWindow

Positions = npt.NDArray[np.int64]
_ROWS_AT_ONCE = 1_000_000


def roll(
    rows: pl.DataFrame, states: pl.DataFrame, keys: Sequence[str], window: RollingWindow, finish: Finish
) -> pl.Series:
    """The value of the measure over the window of every row, as ``={measure}__rolling``."""
    outputs = [output for output in finish.outputs if output.column.name == window.measure]
    operands = outputs[0].ratio or (window.measure,)
    leaves = [leaf for leaf in finish.leaves if leaf.measure.name in operands]
    columns = [column for leaf in leaves for column in state_columns(leaf)]
    sources, targets = _codes(states, rows, [key for key in keys if key != BUCKET])
    assert finish.grid is not None
    step = len(finish.grid.starts) + window.buckets
    # One number per group and bucket, with so much room between groups that no window reaches into another one.
    have = sources * step + states.get_column(BUCKET).to_numpy()
    order = np.argsort(have, kind="stable")
    have = have[order]
    ends = targets * step + rows.get_column(BUCKET).to_numpy()
    begins = ends - window.buckets + 1
    first, last = np.searchsorted(have, begins, side="left"), np.searchsorted(have, ends, side="right")
    sorted_states = states.select(columns)[order]
    name = value_name(window.measure)
    parts = [
        algebra.finish(_merged(sorted_states, first[i:j], last[i:j], leaves), [], leaves, outputs).get_column(
            name
        )
        for i, j in _portions(last - first)
    ]
    values = (
        pl.concat(parts)
        if parts
        else algebra.finish(sorted_states.clear(), [], leaves, outputs).get_column(name)
    )
    return values.alias(value_name(f"{window.measure}__rolling"))


def _codes(states: pl.DataFrame, rows: pl.DataFrame, groups: Sequence[str]) -> tuple[Positions, Positions]:
    """A number per distinct combination of the group keys, for the states and for the rows."""
    if not groups:
        return np.zeros(states.height, np.int64), np.zeros(rows.height, np.int64)
    known = pl.concat([states.select(groups), rows.select(groups)]).unique(maintain_order=True)
    numbered = known.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("!"))

    def coded(frame: pl.DataFrame) -> Positions:
        joined = frame.select(groups).join(
            numbered, on=list(groups), how="left", nulls_equal=True, maintain_order="left"
        )
        return joined.get_column("!").to_numpy()

    return coded(states), coded(rows)


def _portions(lengths: Positions) -> list[tuple[int, int]]:
    """Ranges of rows whose windows together hold about ``_ROWS_AT_ONCE`` states."""
    ends = np.cumsum(lengths)
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(lengths):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _ROWS_AT_ONCE, side="right")))
        found.append((start, stop))
        start = stop
    return found


def _merged(states: pl.DataFrame, first: Positions, last: Positions, leaves: Sequence[Leaf]) -> pl.DataFrame:
    """One row of merged states per window ``[first, last)``, also for an empty one."""
    lengths = last - first
    begins = np.cumsum(lengths) - lengths
    taken = np.arange(lengths.sum()) - np.repeat(begins - first, lengths)
    windows = pl.Series("!", np.arange(len(lengths)))
    repeated = states[taken].with_columns(pl.Series("!", np.repeat(windows.to_numpy(), lengths)))
    # A row of nulls, the identity of every merge, opens each window: windows stay in order and empty ones exist.
    everything = pl.concat([windows.to_frame(), repeated], how="diagonal")
    return algebra.merge(everything, ["!"], leaves)
