"""Merges states by a dense key: one pass per state over an array of totals, without looking for groups first.

Sums are kept as doubles. Integers are added this way only where no sum can pass 2**53, up to which doubles are exact,
so that nothing is rounded and nothing wraps around. Least and greatest numbers treat NaN as PostgreSQL orders it: above
all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.aggregation.measures import state_columns
from broker.aggregation.segment_file import Mask, Positions
from broker.aggregation.segment_shelf import Numbers, OpenFile
from broker.domain.measures import State
from broker.domain.model import MeasureKind as K
from broker.domain.plan import Leaf
from broker.domain.values import DataType

_EXACT = 1 << 53
_WHOLE = (DataType.INT64, DataType.TIMESTAMP, DataType.DATE)
_EXTREMES = {K.MIN: (np.fmin, np.minimum), K.MAX: (np.maximum, np.maximum)}
"""For doubles, and for whole numbers."""
_KINDS = {K.COUNT, K.SUM, K.AVG, *_EXTREMES}


@dataclass(frozen=True, slots=True)
class Values:
    """Some rows of a column by key, with 0 for null; ``known`` says which are not null, None that all are.

    Where rows are grouped by time alone, ``keys`` are of runs of rows, which begin at the rows ``firsts``.
    """

    keys: Positions
    numbers: Numbers
    known: Mask | None = None
    firsts: Positions | None = None


def mergeable(leaf: Leaf, files: Sequence[OpenFile], rows: int) -> bool:
    """Whether the states of a leaf in so many rows of the files are numbers that merge without rounding."""
    if leaf.measure.kind not in _KINDS or not files:
        return False
    for column, state in zip(state_columns(leaf), leaf.states, strict=True):
        wanted = _type(state)
        held = [file.numbers(column) for file in files]
        if wanted is None or any(numbers is None or numbers.dtype != wanted for numbers in held):
            return False
        adds = leaf.measure.kind not in _EXTREMES and state.type in _WHOLE
        if adds and max(file.largest(column) for file in files) * rows >= _EXACT:
            return False
    return True


def _type(state: State) -> np.dtype[np.int64] | np.dtype[np.float64] | None:
    if state.type in _WHOLE:
        return np.dtype(np.int64)
    return np.dtype(np.float64) if state.type is DataType.DOUBLE else None


class _Sum:
    """The sums of one column; the sum of nulls alone is null, unless they are counts."""

    def __init__(self, size: int, state: State) -> None:
        self._whole = state.type in _WHOLE
        self._total = np.zeros(size)
        self._known = np.full(size, state.name == "n")

    def take(self, values: Values) -> None:
        numbers, known, firsts = values.numbers, values.known, values.firsts
        if firsts is not None and len(firsts):
            numbers = np.add.reduceat(numbers, firsts)
            known = None if known is None else np.logical_or.reduceat(known, firsts)
        self._total += np.bincount(values.keys, weights=numbers, minlength=len(self._total))
        self._known[values.keys if known is None else values.keys[known]] = True

    def found(self, name: str, keys: Positions) -> pl.Series:
        total = self._total[keys]
        return _nullable(pl.Series(name, total.astype(np.int64) if self._whole else total), self._known[keys])


class _Extreme:
    """The least or greatest numbers of one column."""

    def __init__(self, size: int, state: State, kind: K) -> None:
        of_doubles, of_whole = _EXTREMES[kind]
        self._least = kind is K.MIN
        if state.type in _WHOLE:
            bounds = np.iinfo(np.int64)
            self._pick = of_whole
            self._best: npt.NDArray[np.int64] | npt.NDArray[np.float64] = np.full(
                size, bounds.max if self._least else bounds.min
            )
        else:
            self._pick = of_doubles
            self._best = np.full(size, np.nan if self._least else -np.inf)
        self._known = np.zeros(size, np.bool_)

    def take(self, values: Values) -> None:
        keys, numbers, firsts = values.keys, values.numbers, values.firsts
        if firsts is not None and len(firsts):
            if values.known is None:
                numbers = self._pick.reduceat(numbers, firsts)
            else:
                keys = np.repeat(keys, np.diff(firsts, append=len(numbers)))
        if values.known is not None:
            keys, numbers = keys[values.known], numbers[values.known]
        self._pick.at(self._best, keys, numbers)
        self._known[keys] = True

    def found(self, name: str, keys: Positions) -> pl.Series:
        return _nullable(pl.Series(name, self._best[keys]), self._known[keys])


def _nullable(series: pl.Series, known: Mask) -> pl.Series:
    return series if known.all() else series.set(pl.Series(~known), None)


class Dense:
    """Merged states of some leaves by keys below ``size``."""

    def __init__(self, leaves: Sequence[Leaf], size: int) -> None:
        self._met = np.zeros(size, np.bool_)
        self._columns: dict[str, _Sum | _Extreme] = {}
        for leaf in leaves:
            for column, state in zip(state_columns(leaf), leaf.states, strict=True):
                kind = leaf.measure.kind
                self._columns[column] = (
                    _Extreme(size, state, kind) if kind in _EXTREMES else _Sum(size, state)
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are merged."""
        return tuple(self._columns)

    def meet(self, keys: Positions) -> None:
        """Notes which keys there are."""
        self._met[keys] = True

    def take(self, column: str, values: Values) -> None:
        """Merges some rows of a column."""
        with np.errstate(invalid="ignore"):  # NaN, and infinities that cancel, are values like others
            self._columns[column].take(values)

    def found(self) -> tuple[Positions, dict[str, pl.Series]]:
        """The keys that have rows, ascending, and their states by column."""
        keys: Positions = np.flatnonzero(self._met)
        return keys, {name: column.found(name, keys) for name, column in self._columns.items()}
