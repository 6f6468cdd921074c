"""What is tracked for the rollups over one time dimension of a dataset: tables, the columns that matter, names."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from broker.adapters.sql.dataset import parse_expression
from broker.domain.fingerprint import fingerprint
from broker.domain.measures import ORDERED
from broker.domain.model import Dataset, Dimension, Measure
from broker.domain.query import Grain, conditions
from broker.domain.rollup import Rollup, Storage, Tracking
from broker.policy.rollups.definition import joins, source_definition

TAG_PREFIX = "rollup_"
_WIDTHS = {Grain.MINUTE: 60_000_000}
_WIDTH = 900_000_000


@dataclass(frozen=True, slots=True)
class TrackedTable:
    """A table under one alias. ``columns`` are those that rollups read, by name; None stands for all of them."""

    table: str
    alias: str
    columns: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class TrackedSource:
    """A dataset with one of its time dimensions, and the rollups over it.

    ``tables`` are all that those kept by the broker read, the dataset's own first; ``written`` those of them that need
    triggers. ``tag`` begins the name of everything that is made for the source; ``width`` is that of marks, in
    microseconds.
    """

    dataset: Dataset
    time: Dimension
    rollups: tuple[Rollup, ...]
    tables: tuple[TrackedTable, ...]
    written: tuple[TrackedTable, ...]
    definition: str
    tag: str
    width: int


def sources(dataset: Dataset, names: Container[str] | None = None) -> tuple[TrackedSource, ...]:
    """The sources of a dataset, one for each time dimension that a rollup has; with ``names`` of those rollups only."""
    by_time: dict[str, list[Rollup]] = {}
    for rollup in dataset.rollups.values():
        if names is None or rollup.name in names:
            by_time.setdefault(rollup.time, []).append(rollup)
    return tuple(_source(dataset, time, found) for time, found in by_time.items())


def tag(dataset: str, time: str) -> str:
    """What begins the names of the triggers and functions of a source."""
    return TAG_PREFIX + fingerprint(dataset, time)[:12]


def _source(dataset: Dataset, time: str, rollups: list[Rollup]) -> TrackedSource:
    kept = [rollup for rollup in rollups if rollup.storage is not Storage.EXTERNAL]
    marked = [rollup for rollup in kept if rollup.tracking is Tracking.TRIGGERS]
    base = min((_WIDTHS.get(rollup.base, _WIDTH) for rollup in marked), default=_WIDTH)
    return TrackedSource(
        dataset,
        dataset.dimensions[time],
        tuple(rollups),
        _tables(dataset, kept) if kept else (),
        _tables(dataset, marked) if marked else (),
        source_definition(dataset, time, marked),
        tag(dataset.name, time),
        base,
    )


def _tables(dataset: Dataset, rollups: Sequence[Rollup]) -> tuple[TrackedTable, ...]:
    used: dict[str, set[str] | None] = {dataset.name: set(_keys(dataset, rollups))}
    aliases = {dataset.name: dataset.table}
    aliases |= {join.name: join.table for join in joins(dataset, rollups)}
    for text in _expressions(dataset, rollups, aliases):
        for alias, column in _columns(text):
            for name in aliases if alias is None else (alias,):
                known = used.setdefault(name, set())
                if column is None:
                    used[name] = None
                elif known is not None:
                    known.add(column)
    found = []
    for alias, table in aliases.items():
        columns = used.get(alias, set())
        found.append(TrackedTable(table, alias, None if columns is None else tuple(sorted(columns))))
    return tuple(found)


def _expressions(dataset: Dataset, rollups: Sequence[Rollup], aliases: Iterable[str]) -> Iterator[str]:
    for alias in aliases:
        if alias in dataset.joins:
            yield dataset.joins[alias].on
    for rollup in rollups:
        filtered = [condition.member for _, condition in conditions(rollup.filter)]
        for name in (rollup.time, *rollup.dimensions, *filtered):
            yield dataset.dimensions[name].sql
        for name in rollup.measures:
            yield from _of_measure(dataset, dataset.measures[name])


def _keys(dataset: Dataset, rollups: Iterable[Rollup]) -> tuple[str, ...]:
    """The primary key, where first and last take it to break ties."""
    ordered = any(dataset.measures[name].kind in ORDERED for r in rollups for name in r.measures)
    return dataset.primary_key if ordered else ()


def _of_measure(dataset: Dataset, measure: Measure) -> Iterator[str]:
    yield from (text for text in (measure.sql, measure.filter) if text)
    if measure.kind in ORDERED and dataset.default_time:
        yield dataset.dimensions[dataset.default_time].sql


def _columns(text: str) -> Iterator[tuple[str | None, str | None]]:
    """Alias and column of everything that the expression reads; None for any."""
    for column in parse_expression(text).find_all(exp.Column):
        if isinstance(column.this, exp.Star) or not column.table:
            # A whole row, or a name that only PostgreSQL can tell the table of.
            yield (_folded(column.args["table"]) if column.table else None), None
        else:
            yield _folded(column.args["table"]), _folded(column.this)


def _folded(identifier: exp.Expr) -> str:
    name = identifier.name
    return name if identifier.args.get("quoted") else name.lower()
