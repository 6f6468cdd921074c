"""Compares an answer with the expected one.

Values are compared as :mod:`tests.oracle.cells` says, everything else exactly: columns with all their properties, the
number of rows, and their order. Order needs care where a sort key is a double that may differ in its last digits. So:

- the answered rows must be in exactly the order that the contract asks for, judged by the answered values themselves;
- every answered row is compared with the expected row of the same group, whatever its place;
- the rows that were left out by the limit are right when none of them belongs before an answered row by more than the
  tolerance. Between rows whose keys are equal up to the tolerance, either may be the one that was cut off.

Where no sort key has a tolerance this is the same as comparing row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise

from tests.oracle.cells import Between, Cell, matches, near, one_nan
from tests.oracle.decode import Actual
from tests.oracle.expected import Expected, precedence

PYTHON_TYPES: Mapping[str, type] = {
    "INT64": int,
    "DOUBLE": float,
    "DECIMAL": Decimal,
    "BOOL": bool,
    "STRING": str,
    "TIMESTAMP": datetime,
    "DATE": date,
}


@dataclass(slots=True)
class SketchTally:
    """How many estimated values were compared, and how many of them were outside their usual limits."""

    compared: int = 0
    outside: int = 0

    def count(self, expected: Cell, actual: object) -> None:
        """Counts a value that passed if it was an estimate that could err."""
        if isinstance(expected, Between) and expected.low < expected.usual[0]:
            assert isinstance(actual, int | float)
            self.compared += 1
            self.outside += not expected.usual[0] <= actual <= expected.usual[1]


def difference(expected: Expected, actual: Actual, tally: SketchTally | None = None) -> str | None:
    """What is wrong with the answer first, or None."""
    if actual.columns != expected.columns:
        return f"columns: expected\n  {expected.columns}\nanswered\n  {actual.columns}"
    if wrong := _types(actual) or _order(expected, actual):
        return wrong
    names = [column.name for column in expected.columns]
    by_key = {_key(expected, row): row for row in expected.rows}
    for i, row in enumerate(actual.rows):
        right = by_key.get(_key(expected, row))
        if right is None:
            return f"row {i} is of a group that should not be there: {row}{_beside(expected, i)}"
        shown = dict(zip(names, row, strict=True))
        for name, cell, value in zip(names, right, row, strict=True):
            if not matches(cell, value, shown):
                return (
                    f"row {i}, {name}: expected {cell}, answered {value!r}\nexpected {right}\nanswered {row}"
                )
            if tally is not None:
                tally.count(cell, value)
    if len(actual.rows) != expected.row_count:
        answered = {_key(expected, row) for row in actual.rows}
        missing = next((r for r in expected.rows if _key(expected, r) not in answered), None)
        return f"{expected.row_count} rows expected, {len(actual.rows)} answered; first missing: {missing}"
    return _cut(expected, actual, by_key)


def _types(actual: Actual) -> str | None:
    for i, row in enumerate(actual.rows):
        for column, value in zip(actual.columns, row, strict=True):
            if value is not None and type(value) is not PYTHON_TYPES[column.type]:
                return f"row {i}, {column.name}: {value!r} is not of type {column.type}"
    return None


def _key(expected: Expected, row: Sequence[object]) -> tuple[object, ...]:
    return one_nan(row[place] for place in expected.keys)


def _order(expected: Expected, actual: Actual) -> str | None:
    for i, (above, below) in enumerate(pairwise(actual.rows)):
        found = precedence(expected.order, above, below)
        if found > 0:
            return (
                f"rows {i} and {i + 1} are in the wrong order: {above} before {below}{_beside(expected, i)}"
            )
        if found == 0:
            return f"rows {i} and {i + 1} are of one group: {above} and {below}"
    return None


def _cut(
    expected: Expected, actual: Actual, by_key: dict[tuple[object, ...], tuple[Cell, ...]]
) -> str | None:
    """Whether a row was left out that belongs before an answered one."""
    if len(actual.rows) == len(expected.rows) or not actual.rows:
        return None
    answered = {_key(expected, row) for row in actual.rows}
    last = by_key[_key(expected, actual.rows[-1])]
    for row in expected.rows:
        if _key(expected, row) not in answered and precedence(expected.order, row, last, fair=True) < 0:
            return f"the limit left out {row}, which belongs before {last}"
    return None


def _beside(expected: Expected, place: int) -> str:
    return f"\nexpected there: {expected.rows[place] if place < len(expected.rows) else 'nothing'}"


def unlike(one: object, two: object) -> str | None:
    """Where two answers to one question differ first, or None. Doubles may differ by 1e-9 of their size."""
    if not isinstance(one, Actual) or not isinstance(two, Actual):
        return f"not both are answers: {one if not isinstance(one, Actual) else two}"
    if one.columns != two.columns:
        return f"columns: {one.columns} and {two.columns}"
    if len(one.rows) != len(two.rows):
        return f"{len(one.rows)} and {len(two.rows)} rows"
    for i, (left, right) in enumerate(zip(one.rows, two.rows, strict=True)):
        if not all(map(_alike, left, right)):
            return f"row {i}: {left} and {right}"
    return None


def _alike(one: object, two: object) -> bool:
    if isinstance(one, float) and isinstance(two, float):
        return matches(near(one), two, {})
    return type(one) is type(two) and one == two
