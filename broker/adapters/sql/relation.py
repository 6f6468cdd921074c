"""A rollup that is a table or view, as a dataset of its own: the same scan reads it as reads the source.

Only the states differ: where the source is aggregated, stored states are merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from broker.adapters.sql.build import ScanBuilder
from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.merged import merged_states
from broker.adapters.sql.rollup_table import relation_columns, relation_sql
from broker.adapters.sql.values import DIALECT, SQL_TYPES
from broker.domain.measures import SKETCHES, UNMERGEABLE
from broker.domain.model import Dataset, Dimension, RowPolicy
from broker.domain.plan import Leaf, Scan
from broker.domain.rollup import Rollup, Span, Storage
from broker.domain.values import DataType


@dataclass(frozen=True, slots=True)
class Relation:
    """``dataset`` describes the relation of ``rollup``, a rollup of ``source``; ``time`` is the bucket's beginning."""

    source: Dataset
    rollup: Rollup
    dataset: Dataset
    time: Dimension
    columns: Mapping[str, str]

    def scan(self, scan: Scan, spans: Sequence[Span]) -> Scan:
        """The scan of the source as one of the relation, restricted to spans that its buckets fill."""
        own = self.dataset
        return replace(
            scan,
            dataset=own,
            dimensions=tuple([own.dimensions[d.name] for d in scan.dimensions]),
            leaves=tuple([own.measures[m.name] for m in scan.leaves]),
            time=self.time,
            policies=tuple([self._policy(policy) for policy in scan.policies]),
            pieces=tuple(spans),
        )

    def builder(
        self, scan: Scan, leaves: Mapping[str, Leaf], sql: DatasetSql, *, pretty: bool = False
    ) -> ScanBuilder:
        """What builds the statements of :meth:`scan`."""

        def column(member: str) -> exp.Expr:
            return sql.column(self.columns[member])

        own = {m.name: replace(leaves[m.name], measure=m) for m in scan.leaves}
        return ScanBuilder(scan, own, sql, states=lambda leaf: merged_states(leaf, column), pretty=pretty)

    def _policy(self, policy: RowPolicy) -> RowPolicy:
        (found,) = (own for own in self.dataset.row_policies if own.name == policy.name)
        return found


def relation(source: Dataset, rollup: Rollup) -> Relation:
    """The relation of a rollup."""
    names = relation_columns(source, rollup)
    external = rollup.storage is Storage.EXTERNAL

    def stored(dimension: Dimension, member: str) -> Dimension:
        sql = exp.column(names[member], table=source.name, quoted=True).sql(dialect=DIALECT)
        zone = dimension.stored_zone if external else ""
        return replace(dimension, sql=sql, tables=(source.name,), stored_zone=zone)

    time = stored(source.dimensions[rollup.time], "")
    if not external:
        time = replace(time, type=DataType.TIMESTAMP)
    dimensions = {name: stored(source.dimensions[name], name) for name in rollup.dimensions}
    kept = [source.measures[name] for name in rollup.measures]
    own = replace(
        source,
        table=relation_sql(source, rollup),
        dimensions={time.name: time} | dimensions,
        measures={
            m.name: replace(m, tables=(), filter="") for m in kept if m.kind not in SKETCHES | UNMERGEABLE
        },
        joins={},
        row_policies=tuple(
            _policy(p, dimensions) for p in source.row_policies if _expressible(p, dimensions)
        ),
    )
    return Relation(source, rollup, own, time, names)


def _expressible(policy: RowPolicy, stored: Mapping[str, Dimension]) -> bool:
    return policy.terms is not None and all(name in stored for name, _ in policy.terms)


def _policy(policy: RowPolicy, stored: Mapping[str, Dimension]) -> RowPolicy:
    """The policy's terms over the relation's columns."""
    texts = [_term(stored[name], placeholder) for name, placeholder in policy.terms or ()]
    return replace(policy, sql=" AND ".join(texts) or "true")


def _term(dimension: Dimension, placeholder: str) -> str:
    kind = SQL_TYPES[dimension.type]
    return f"CAST({dimension.sql} AS {kind}) = CAST({{{placeholder}}} AS {kind})"
