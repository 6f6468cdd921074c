"""Adds up states by a dense key: one pass per state over an array of totals, without looking for groups first.

Sums are kept as doubles. Integers are added this way only where no sum can pass 2**53, up to which doubles are exact,
so that nothing is rounded and nothing wraps around.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from broker.aggregation.measures import state_columns
from broker.aggregation.segment_file import Positions
from broker.aggregation.segment_shelf import Numbers, OpenFile
from broker.domain.model import MeasureKind
from broker.domain.plan import Leaf
from broker.domain.values import DataType

_EXACT = 1 << 53
_TYPES = {DataType.INT64: np.dtype(np.int64), DataType.DOUBLE: np.dtype(np.float64)}
_ADDED = frozenset({MeasureKind.COUNT, MeasureKind.SUM, MeasureKind.AVG})


def addable(leaf: Leaf, files: Sequence[OpenFile], rows: int) -> bool:
    """Whether the states of a leaf in so many rows of the files are numbers whose sums are exact."""
    if leaf.measure.kind not in _ADDED or not files:
        return False
    for column, state in zip(state_columns(leaf), leaf.states, strict=True):
        held = [file.numbers(column) for file in files]
        if any(numbers is None or numbers.dtype != _TYPES.get(state.type) for numbers in held):
            return False
        if state.type is DataType.INT64 and max(file.largest(column) for file in files) * rows >= _EXACT:
            return False
    return True


class Sums:
    """Totals of some leaves by keys below ``size``."""

    def __init__(self, leaves: Sequence[Leaf], size: int) -> None:
        self._types = {
            column: state.type
            for leaf in leaves
            for column, state in zip(state_columns(leaf), leaf.states, strict=True)
        }
        self._size = size
        self._met = np.zeros(size, np.bool_)
        self._totals = {column: np.zeros(size) for column in self._types}
        self._known = {column: np.zeros(size, np.bool_) for column in self._types}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are added."""
        return tuple(self._types)

    def meet(self, keys: Positions) -> None:
        """Notes which keys there are."""
        self._met[keys] = True

    def add(self, column: str, keys: Positions, numbers: Numbers) -> None:
        """Adds the numbers of a column to the totals of their keys; a null is added as 0."""
        self._totals[column] += np.bincount(keys, weights=numbers, minlength=self._size)

    def know(self, column: str, keys: Positions) -> None:
        """Notes the keys of values that are not null: the total of nulls alone is null."""
        self._known[column][keys] = True

    def found(self) -> tuple[Positions, dict[str, pl.Series]]:
        """The keys that have rows, ascending, and their totals by column."""
        keys: Positions = np.flatnonzero(self._met)
        return keys, {column: self._series(column, keys) for column in self._types}

    def _series(self, column: str, keys: Positions) -> pl.Series:
        totals, known = self._totals[column][keys], self._known[column][keys]
        if self._types[column] is DataType.INT64:
            found = pl.Series(column, totals.astype(np.int64))
        else:
            found = pl.Series(column, totals)
        return found if known.all() else found.set(pl.Series(~known), None)
