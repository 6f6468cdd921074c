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

    ``keys`` are counted from the first of ``place``, within which all of them are.

    Where rows are grouped by time alone, ``keys`` are of runs of rows, which begin at the rows ``firsts``; ``numbers``
    are those of the runs then, if :meth:`Dense.numbers` reduced them.
    """

    place: slice
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


class _Known:
    """Which keys have a value that is not null. Nothing is noted before the first null comes."""

    def __init__(self) -> None:
        self._known: Mask | None = None

    def note(self, values: Values, known: Mask | None, met: Mask) -> None:
        """``met`` are the keys of earlier values, ``known`` says which of the keys have a value now."""
        if self._known is None:
            if known is None:
                return
            self._known = met.copy()
        self._known[values.place][values.keys if known is None else values.keys[known]] = True

    def nullable(self, series: pl.Series, keys: Positions) -> pl.Series:
        """The series with null where no value is known."""
        known = None if self._known is None else self._known[keys]
        return series if known is None or known.all() else series.set(pl.Series(~known), None)


class _Sum:
    """The sums of one column; the sum of nulls alone is null, unless they are counts."""

    def __init__(self, size: int, state: State) -> None:
        self._whole = state.type in _WHOLE
        self._total = np.zeros(size)
        self._counts = state.name == "n"
        self._known = _Known()

    def reduces(self, _: Mask | None) -> np.ufunc:
        return np.add

    def take(self, values: Values, met: Mask) -> None:
        known = values.known
        if known is not None and values.firsts is not None:
            known = np.logical_or.reduceat(known, values.firsts)
        total = self._total[values.place]
        total += np.bincount(values.keys, weights=values.numbers, minlength=len(total))
        if not self._counts:
            self._known.note(values, known, met)

    def found(self, name: str, keys: Positions) -> pl.Series:
        total = self._total[keys]
        return self._known.nullable(pl.Series(name, total.astype(np.int64) if self._whole else total), keys)


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
        self._known = _Known()

    def reduces(self, known: Mask | None) -> np.ufunc | None:
        return self._pick if known is None else None

    def take(self, values: Values, met: Mask) -> None:
        keys, numbers, known = values.keys, values.numbers, values.known
        if known is not None:
            if values.firsts is not None:
                keys = np.repeat(keys, np.diff(values.firsts, append=len(numbers)))
            values = Values(values.place, keys, numbers, known)
            keys, numbers = keys[known], numbers[known]
        self._pick.at(self._best[values.place], keys, numbers)
        self._known.note(values, known, met)

    def found(self, name: str, keys: Positions) -> pl.Series:
        return self._known.nullable(pl.Series(name, self._best[keys]), keys)


def _together(parts: Sequence[Numbers], kind: type[np.float64] | None = None) -> Numbers:
    if len(parts) == 1:
        return parts[0]
    found: Numbers = np.concatenate(parts, dtype=kind)
    return found


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

    def numbers(
        self, column: str, parts: Sequence[Numbers], known: Mask | None, runs: Sequence[Positions]
    ) -> Numbers:
        """Those of some rows, for :meth:`take`.

        ``runs`` are the first rows of the runs of every part, or of all parts together; none where rows are not grouped
        by time alone.
        """
        merged = self._columns[column]
        reduces = merged.reduces(known) if runs else None
        if reduces is None:
            # What is added up will be doubles, which it becomes on the way here at no cost.
            return _together(parts, np.float64 if isinstance(merged, _Sum) else None)
        if len(runs) < len(parts):
            parts = [_together(parts)]
        with np.errstate(invalid="ignore"):
            return _together([reduces.reduceat(part, own) for part, own in zip(parts, runs, strict=True)])

    def take(self, column: str, values: Values) -> None:
        """Merges some rows of a column; :meth:`meet` is for afterwards."""
        with np.errstate(invalid="ignore"):  # NaN, and infinities that cancel, are values like others
            self._columns[column].take(values, self._met)

    def meet(self, place: slice, keys: Positions) -> None:
        """Notes which keys there are."""
        self._met[place][keys] = True

    def found(self) -> tuple[Positions, dict[str, pl.Series]]:
        """The keys that have rows, ascending, and their states by column."""
        keys: Positions = np.flatnonzero(self._met)
        return keys, {name: column.found(name, keys) for name, column in self._columns.items()}
