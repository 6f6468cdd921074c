"""An expected answer: its columns, and all rows in order, before the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from querybroker.v1 import query_pb2 as q
from tests.oracle.calculate import Row, other_column
from tests.oracle.cells import Cell, plain, rank, slack_of
from tests.oracle.model import MeasureSpec, OracleModel


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column as the contract describes it; names of type and role are without prefix."""

    name: str
    type: str
    role: str
    scale: int = 0
    zone: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class SortKey:
    """A sort key over the column at ``place``."""

    place: int
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """``keys`` are the places of the columns that identify a row; ``order`` is total. No limit is 0."""

    columns: tuple[ColumnSpec, ...]
    keys: tuple[int, ...]
    order: tuple[SortKey, ...]
    rows: tuple[tuple[Cell, ...], ...]
    limit: int

    @property
    def row_count(self) -> int:
        """Number of rows of the answer."""
        return min(len(self.rows), self.limit) if self.limit else len(self.rows)


def expected_columns(
    query: q.Query, model: OracleModel, time: str, dimensions: Sequence[str]
) -> tuple[ColumnSpec, ...]:
    """Bucket, dimensions, measures, then the columns of the calculations in the order in which they are made."""
    columns: list[ColumnSpec] = []
    if time:
        type_ = model.dimensions[time].type
        zone = "UTC" if type_ == "DATE" else query.time.zone or "UTC"
        columns.append(ColumnSpec(time, type_, "TIME_BUCKET", zone=zone))
    for name in dimensions:
        spec = model.dimensions[name]
        columns.append(ColumnSpec(name, spec.type, "DIMENSION", spec.scale))
    columns += [_like(model, model.measures[name], name, "MEASURE") for name in query.measures]
    columns += [ColumnSpec(name, "BOOL", "CALCULATION") for name in other_column(query)]
    calculations = query.calculations
    if calculations.HasField("compare_to"):
        for name in list(calculations.compare_to.measures) or list(query.measures):
            spec_ = model.measures[name]
            columns.append(_like(model, spec_, f"{name}__previous", "CALCULATION"))
            columns.append(_like(model, spec_, f"{name}__change", "CALCULATION"))
            columns.append(ColumnSpec(f"{name}__change_ratio", "DOUBLE", "CALCULATION"))
    columns += [ColumnSpec(f"{s.measure}__share", "DOUBLE", "CALCULATION") for s in calculations.shares]
    for window in calculations.rolling_windows:
        spec_ = model.measures[window.measure]
        columns.append(_like(model, spec_, f"{window.measure}__rolling", "CALCULATION"))
    return tuple(columns)


def _like(model: OracleModel, spec: MeasureSpec, name: str, role: str) -> ColumnSpec:
    type_, scale = model.result(spec.name)
    return ColumnSpec(name, type_, role, scale, unit=spec.unit)


def ordered(
    query: q.Query, columns: tuple[ColumnSpec, ...], keys: Sequence[str], rows: Sequence[Row]
) -> Expected:
    """Sorts by the keys of the query and then by the group keys, ascending, nulls last."""
    names = [column.name for column in columns]
    places = tuple(names.index(name) for name in keys)
    order = [
        SortKey(names.index(k.member), k.direction == q.SORT_DIRECTION_DESC, k.nulls == q.NULL_ORDER_FIRST)
        for k in query.order
    ]
    order += [SortKey(place) for place in places]
    flat = [_flat(row, keys, names) for row in rows]
    for key in reversed(order):  # stable sorts, the least important key first
        flat.sort(key=partial(_sortable, key), reverse=key.descending)
    return Expected(columns, places, tuple(order), tuple(flat), query.limit)


def _sortable(key: SortKey, row: Sequence[Cell]) -> tuple[object, ...]:
    value = plain(row[key.place])
    # Where the order is reversed nulls have to begin at the other end.
    return (-1,) if value is None and key.nulls_first != key.descending else rank(value)


def _flat(row: Row, keys: Sequence[str], names: Sequence[str]) -> tuple[Cell, ...]:
    cells = {**row.cells, **dict(zip(keys, row.key, strict=True))}
    return tuple(cells[name] for name in names)


def precedence(order: Sequence[SortKey], a: Sequence[Cell], b: Sequence[Cell], *, fair: bool = False) -> int:
    """Negative when ``a`` comes first. ``fair`` returns 0 at a key where the two differ by no more than their slack."""
    for key in order:
        left, right = a[key.place], b[key.place]
        if left is None or right is None:
            if left is right:
                continue
            return -1 if (left is None) == key.nulls_first else 1
        x, y = rank(plain(left)), rank(plain(right))
        slack = slack_of(left) + slack_of(right)
        if fair and slack and abs(plain(left) - plain(right)) <= slack:  # type: ignore[operator] # both are doubles
            return 0
        if x != y:
            return -1 if (x < y) != key.descending else 1
    return 0
