"""Proposes rollups for a model: from the log of questions and the statistics of the database, as YAML to paste."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from broker.domain.errors import BrokerError
from broker.domain.model import Dataset, Dimension, Model
from broker.domain.principal import Principal
from broker.domain.relations import DatabaseCatalog, Relation
from broker.domain.rollup import Rollup, Span, micros
from broker.domain.values import DataType
from broker.policy.resolve import resolve_query
from broker.policy.rollups.advise import Logged, advise
from broker.policy.rollups.advised import Advice, Proposal
from broker.policy.rollups.sizing import UNKNOWN_DISTINCT, SourceFacts
from broker.rollups.query_log import Record

_COLUMN = re.compile(r'"?(\w+)"?\."?(\w+)"?')
_PLACEHOLDER = re.compile(r"\{attributes\.(\w+)\}")
_YEAR = timedelta(days=365)
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Proposed:
    """Advice for every dataset that was asked about; ``unknown`` questions do not fit the model any more."""

    advice: tuple[Advice, ...]
    unknown: int = 0

    @property
    def yaml(self) -> str:
        """What can be pasted into the configuration; empty when nothing is proposed."""
        return "".join(_document(self.advice))


def propose(
    model: Model,
    records: Iterable[Record],
    catalog: DatabaseCatalog,
    extents: Mapping[str, Span] = MappingProxyType({}),
    most: int = 5,
    byte_limit: float = 2**31,
) -> Proposed:
    """At most ``most`` rollups of ``byte_limit`` bytes for each dataset of the model that the records ask.

    ``extents`` says for datasets between which instants their rows are, where that is known.
    """
    by_dataset: dict[str, list[Logged]] = {}
    unknown = 0
    for record in records:
        logged = _logged(model, record)
        if logged is None:
            unknown += record.count
        else:
            by_dataset.setdefault(record.query.dataset, []).append(logged)
    found = []
    for name, logs in sorted(by_dataset.items()):
        dataset = model.datasets[name]
        facts = facts_of(dataset, logs, catalog, extents.get(name))
        found.append(advise(dataset, logs, facts, most, byte_limit))
    return Proposed(tuple(found), unknown)


def facts_of(
    dataset: Dataset, logged: Sequence[Logged], catalog: DatabaseCatalog, extent: Span | None = None
) -> SourceFacts:
    """Rows and distinct values by the planner's statistics; the extent, if it is not known, by what was asked for."""
    own = _relation(catalog, dataset.table)
    rows = float(own.rows) if own is not None and own.rows else 1e6
    distinct = {
        dimension.name: min(rows, _distinct(dataset, dimension, catalog))
        for dimension in dataset.dimensions.values()
    }
    return SourceFacts(rows, extent or _extent(logged), distinct)


def time_column(dataset: Dataset) -> tuple[str, str, str] | None:
    """Schema, table and column of the default time dimension, where it is a column of the dataset's own table."""
    time = dataset.dimensions.get(dataset.default_time)
    match = _COLUMN.fullmatch(time.sql) if time is not None else None
    if match is None or match[1] != dataset.name:
        return None
    schema, _, table = dataset.table.replace('"', "").rpartition(".")
    return schema or "public", table, match[2]


def _logged(model: Model, record: Record) -> Logged | None:
    """The record's plan, for somebody to whom the same row policies apply."""
    dataset = model.datasets.get(record.query.dataset)
    if dataset is None or record.count < 1:
        return None
    applied = [policy for policy in dataset.row_policies if policy.name in record.policies]
    attributes = {name: name for policy in applied for name in _PLACEHOLDER.findall(policy.sql)}
    terms = [placeholder for policy in applied for _, placeholder in policy.terms or ()]
    attributes |= {name.removeprefix("attributes."): name for name in terms if name.startswith("attributes.")}
    somebody = Principal("somebody", "some-tenant", attributes=attributes)
    try:
        plan = resolve_query(
            record.query, replace(dataset, row_policies=tuple(applied)), somebody, record.time
        )
    except BrokerError:
        return None
    return Logged(plan, record.count, record.live_seconds)


def _relation(catalog: DatabaseCatalog, table: str) -> Relation | None:
    schema, _, name = table.replace('"', "").rpartition(".")
    return catalog.relation(schema or "public", name)


def _distinct(dataset: Dataset, dimension: Dimension, catalog: DatabaseCatalog) -> float:
    """Distinct values of a dimension: those of its column, or at most the product of those of its columns."""
    if dimension.type is DataType.BOOL:
        return 3.0
    product, seen = 1.0, False
    for alias, column in dict.fromkeys(_COLUMN.findall(dimension.sql)):
        table = dataset.table if alias == dataset.name else _table(dataset, alias)
        relation = _relation(catalog, table) if table else None
        found = relation.column(column) if relation is not None else None
        if found is not None and found.distinct is not None:
            product, seen = product * max(1.0, found.distinct), True
    return product if seen else UNKNOWN_DISTINCT


def _table(dataset: Dataset, alias: str) -> str:
    return dataset.joins[alias].table if alias in dataset.joins else ""


def _extent(logged: Sequence[Logged]) -> Span:
    """From the first to the last instant that was asked for; a year before the last one at least."""
    bounds = [scan.bounds for each in logged for scan in each.plan.scans if scan.bounds is not None]
    if not bounds:
        return Span(micros(_SOME_DAY), micros(_SOME_DAY + _YEAR))
    end = max(each.end for each in bounds)
    return Span(micros(min(*(each.start for each in bounds), end - _YEAR)), micros(end))


def _document(advice: Iterable[Advice]) -> Iterator[str]:
    proposed = [each for each in advice if each.proposals]
    if proposed:
        yield "datasets:\n"
    for each in proposed:
        yield f"  {each.dataset.name}:\n    rollups:\n"
        for proposal in each.proposals:
            yield from _comment(each, proposal)
            yield from _rollup(each.dataset, proposal.rollup)


def _comment(advice: Advice, proposal: Proposal) -> Iterator[str]:
    share = proposal.hit_count / max(1, advice.question_count)
    saved = proposal.saved_seconds / advice.live_seconds if advice.live_seconds else 0.0
    size, indent = proposal.size, " " * 6
    yield f"{indent}# answers {share:.1%} of the questions and saves {saved:.1%} of their live time\n"
    yield f"{indent}# about {size.base_rows:,.0f} rows and {size.byte_count / 1e6:,.1f} MB; "
    yield f"built in about {size.build_seconds:,.0f} s; "
    yield f"1,000 rows are written {size.write_seconds * 1e3:.1f} ms slower\n"


def _rollup(dataset: Dataset, rollup: Rollup) -> Iterator[str]:
    lines = [f"dimensions: [{', '.join(rollup.dimensions)}]", f"measures: [{', '.join(rollup.measures)}]"]
    if rollup.time != dataset.default_time:
        lines.append(f"time: {rollup.time}")
    lines += [
        f"grains: [{', '.join(rollup.grains)}]",
        f"zone: {rollup.zone}",
        f"partition: {rollup.partition}",
    ]
    yield f"      {rollup.name}:\n"
    yield from (f"        {line}\n" for line in lines)
