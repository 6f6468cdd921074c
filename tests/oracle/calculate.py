"""Calculations on the grouped result: top N, comparison, shares."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import polars as pl

from querybroker.v1 import query_pb2 as q
from tests.oracle.aggregate import Groups, Key, divided, empty_value, groups
from tests.oracle.cells import AmbiguousError, Between, Cell, Derived, number, plain, rank, slack_of, within
from tests.oracle.model import OracleModel


@dataclass(frozen=True, slots=True)
class Row:
    """A row under way: its key (bucket, dimensions, flag of top N) and its values by column."""

    key: Key
    cells: MutableMapping[str, Cell]


def other_column(query: q.Query) -> list[str]:
    """The flag that top N adds to the keys, or nothing."""
    top = query.calculations.top_n
    return [f"{top.dimension}__other"] if top.other else []


def top_values(top: q.TopN, model: OracleModel, main: pl.DataFrame) -> pl.DataFrame:
    """The values of the dimension to keep: those of the largest measure over the whole range."""
    ranked = groups(model, main, [top.dimension], [top.by])

    cells = sorted(((key[0], found[top.by]) for key, found in ranked.items()), key=lambda item: rank(item[0]))
    cells.sort(key=lambda item: rank(plain(item[1])), reverse=not top.ascending)
    cells.sort(key=lambda item: item[1] is None)
    if 0 < top.count < len(cells):
        inside, outside = cells[top.count - 1][1], cells[top.count][1]
        if inside is not None and outside is not None:
            gap = abs(float(number(inside)) - float(number(outside)))
            if 0 < slack_of(inside) + slack_of(outside) >= gap:
                raise AmbiguousError("the last value kept and the first one dropped are nearly equal")
    kept = [value for value, _ in cells[: top.count]]
    return pl.DataFrame({top.dimension: pl.Series(kept, dtype=model.types[top.dimension])})


def compare_rows(
    rows: Mapping[Key, Row],
    before: Groups,
    names: Sequence[str],
    model: OracleModel,
    matching: Mapping[object, object] | None,
) -> None:
    """Adds the columns of the comparison; ``matching`` leads from buckets to earlier buckets, None without a grain."""
    for key, row in rows.items():
        if matching is None:
            other: Key | None = key
        else:
            other = (matching[key[0]], *key[1:]) if key[0] in matching else None
        for name in names:
            previous: Cell = None
            if other is not None:
                previous = before[other][name] if other in before else empty_value(model, name)
            row.cells[f"{name}__previous"] = previous
            change, ratio = _changes(name, row.cells[name], previous)
            row.cells[f"{name}__change"], row.cells[f"{name}__change_ratio"] = change, ratio


def _changes(name: str, value: Cell, previous: Cell) -> tuple[Cell, Cell]:
    """The difference and its ratio to the previous value; of sketches, computed from what was answered."""
    if isinstance(value, Between) or isinstance(previous, Between):
        return (
            Derived(lambda row: _difference(row[name], row[f"{name}__previous"])),
            Derived(lambda row: divided(row[f"{name}__change"], row[f"{name}__previous"])),
        )
    change = _difference(value, previous)
    return change, divided(change, previous)


def _difference(value: Cell, previous: Cell) -> Cell:
    if value is None or previous is None:
        return None
    a, b = number(value), number(previous)
    if isinstance(a, float) or isinstance(b, float):
        slack = slack_of(value) + slack_of(previous)
        result = float(a) - float(b)
        return within(result, slack)
    return a - b


def share_rows(rows: Mapping[Key, Row], share: q.ShareOfTotal, keys: Sequence[str]) -> None:
    """Adds the share of the total over the rows that agree on the given columns; null counts 0."""
    places = [keys.index(name) for name in share.within]
    totals: dict[Key, list[Cell]] = {}
    for key, row in rows.items():
        totals.setdefault(tuple(key[i] for i in places), []).append(row.cells[share.measure])
    sums = {part: _sum(cells) for part, cells in totals.items()}
    for key, row in rows.items():
        total = sums[tuple(key[i] for i in places)]
        row.cells[f"{share.measure}__share"] = divided(row.cells[share.measure], total)


def _sum(cells: Sequence[Cell]) -> Cell:
    known = [cell for cell in cells if cell is not None]
    total = sum(number(cell) for cell in known)
    slack = sum(slack_of(cell) for cell in known)
    return within(float(total), slack) if slack else total
