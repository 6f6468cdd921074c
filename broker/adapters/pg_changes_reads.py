"""Which columns a plan reads, and of which columns the triggers of a source mark changes.

A writer that changes no column which some rollup reads leaves no mark. So marks tell of all changes of an answer only
where everything that its plan reads is among what the rollups of one source read.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from sqlglot import exp

from broker.adapters.pg_rollup_tracked import sources
from broker.adapters.sql.dataset import DatasetSql, parse_expression, read_policy
from broker.domain.measures import ORDERED
from broker.domain.model import Dataset, Measure, RowPolicy
from broker.domain.plan import Plan, Scan
from broker.domain.query import conditions
from broker.domain.rollup import FAR_FUTURE, FAR_PAST, Rollup, Span, Storage, Tracking, micros

_EVERYTHING = Span(FAR_PAST, 2 * FAR_FUTURE)
"""All of time, and past its end, where rows are marked that no segment can hold."""
_FIRST, _LAST = (micros(datetime(year, 1, 1, tzinfo=UTC)) for year in (1, 9999))
Columns = Mapping[str, frozenset[str] | None]
"""Columns by the alias of their table; None for all of them. An alias without any is there for its rows."""


def read_by(plan: Plan) -> Columns:
    """What the scans of a plan read, the conditions of joins included."""
    dataset = plan.main.dataset
    texts = [text for scan in plan.scans for text in _texts(scan)]
    found: dict[str, set[str] | None] = {dataset.name: set()}
    if any(leaf.kind in ORDERED for scan in plan.scans for leaf in scan.leaves):
        found[dataset.name] = set(dataset.primary_key)
    _add(found, texts, dataset)
    joined = DatasetSql(dataset).joins({*found, *(alias for s in plan.scans for alias in _aliases(s))})
    _add(found, [dataset.joins[name].on for name in joined], dataset)
    for name in joined:
        found.setdefault(name, set())
    return {alias: None if names is None else frozenset(names) for alias, names in found.items()}


def marked_for(dataset: Dataset, time: str, rollups: Container[str]) -> Columns:
    """What is marked for these rollups of one source, by alias."""
    for source in sources(dataset, rollups):
        if source.time.name == time:
            return {
                table.alias: None if table.columns is None else frozenset(table.columns)
                for table in source.written
            }
    return {}


def within(read: Columns, marked: Columns) -> bool:
    """Whether every change of what is read is marked."""
    for alias, names in read.items():
        if alias not in marked:
            return False
        known = marked[alias]
        if known is not None and (names is None or not names <= known):
            return False
    return True


def marked(dataset: Dataset) -> Iterator[Rollup]:
    """The rollups for which triggers mark changes."""
    for rollup in dataset.rollups.values():
        if rollup.tracking is Tracking.TRIGGERS and rollup.storage is not Storage.EXTERNAL:
            yield rollup


def times_of(dataset: Dataset) -> tuple[str, ...]:
    """The time dimensions along which changes of a dataset are marked."""
    return tuple(dict.fromkeys(rollup.time for rollup in marked(dataset)))


def token_of(dataset: Dataset) -> str:
    """The SQL of a dataset's change token, "" for none; with several of them all are compared."""
    found = dict.fromkeys(r.token for r in dataset.rollups.values() if r.tracking is Tracking.CHANGE_TOKEN)
    if not found:
        return ""
    texts = ", ".join(f"coalesce(({sql})::text, 'null')" for sql in found)
    return f"SELECT array[{texts}]::text"


def marked_in(span: Span, *, outside: bool) -> Span | None:
    """Where the marks lie that tell of everything in a span; None where rows may be in it that leave none.

    Those are rows without a time, or with one that is infinite or out of range, where such are not marked ``outside``.
    """
    if span.lo >= _FIRST and span.hi <= _LAST:
        return span
    return _EVERYTHING if outside else None


def shape_of(plan: Plan) -> tuple[object, ...]:
    """What decides the columns that a plan reads; to be compared while its dataset is held."""
    return (id(plan.main.dataset), *(_shape(scan) for scan in plan.scans))


def _shape(scan: Scan) -> tuple[object, ...]:
    return (
        tuple(each.name for each in scan.dimensions),
        tuple(each.name for each in scan.leaves),
        "" if scan.time is None else scan.time.name,
        frozenset(condition.member for _, condition in conditions(scan.filter)),
        tuple(policy.name for policy in scan.policies),
    )


def _texts(scan: Scan) -> Iterator[str]:
    dataset = scan.dataset
    filtered = [condition.member for _, condition in conditions(scan.filter)]
    yield from (each.sql for each in scan.dimensions)
    yield from (dataset.dimensions[name].sql for name in filtered)
    if scan.time is not None:
        yield scan.time.sql
    for leaf in scan.leaves:
        yield from _of_measure(dataset, leaf)
    yield from (_predicate(policy) for policy in scan.policies)


def _of_measure(dataset: Dataset, measure: Measure) -> Iterator[str]:
    yield from (text for text in (measure.sql, measure.filter) if text)
    if measure.kind in ORDERED and dataset.default_time:
        yield dataset.dimensions[dataset.default_time].sql


def _predicate(policy: RowPolicy) -> str:
    """The predicate of a policy with something in the places of the principal's values."""
    return "NULL".join(read_policy(policy.sql).pieces)


def _aliases(scan: Scan) -> Iterator[str]:
    for name in (condition.member for _, condition in conditions(scan.filter)):
        yield from scan.dataset.dimensions[name].tables
    for dimension in scan.dimensions:
        yield from dimension.tables
    for leaf in scan.leaves:
        yield from leaf.tables
    for policy in scan.policies:
        yield from policy.tables


def _add(found: dict[str, set[str] | None], texts: Iterable[str], dataset: Dataset) -> None:
    for text in texts:
        for column in parse_expression(text).find_all(exp.Column):
            aliases = [_folded(column.args["table"])] if column.table else [dataset.name, *dataset.joins]
            for alias in aliases:
                known = found.setdefault(alias, set())
                if isinstance(column.this, exp.Star) or not column.table:
                    found[alias] = None  # a whole row, or a name that only PostgreSQL can tell the table of
                elif known is not None:
                    known.add(_folded(column.this))


def _folded(identifier: exp.Expr) -> str:
    name = identifier.name
    return name if identifier.args.get("quoted") else name.lower()
