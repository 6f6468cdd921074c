"""Joins that foreign keys suggest, and, as mere hints, those that names suggest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.config.propose_names import Names, stem
from broker.config.sql_text import quote
from broker.domain.relations import DatabaseCatalog, ForeignKey, Relation

MAX_JOINS = 12
"""Joins of one dataset."""
_DEPTH = 2


@dataclass(frozen=True, slots=True)
class ProposedJoin:
    """A join of ``relation`` under a name; ``parent`` is empty when it continues the dataset's own table."""

    name: str
    relation: Relation
    on: str
    parent: str = ""
    one_to_one: bool = False


def joins_by_key(
    dataset: str, relation: Relation, catalog: DatabaseCatalog, names: Names
) -> list[ProposedJoin]:
    """The tables that foreign keys lead to, and the ones that those lead to."""
    found: list[ProposedJoin] = []
    level = [(dataset, "", relation)]
    for _ in range(_DEPTH):
        below: list[tuple[str, str, Relation]] = []
        for alias, parent, source in level:
            for key, target in _targets(source, catalog):
                if len(found) == MAX_JOINS or (parent and target in (relation, source)):
                    continue
                several = sum(other.table == key.table for other in source.foreign_keys) > 1
                wish = stem(key.columns[0]) if several or target.name == dataset else target.name
                name = names.take(wish, f"{alias}_{wish}")
                on = " AND ".join(
                    f"{quote(name)}.{quote(there)} = {quote(alias)}.{quote(here)}"
                    for here, there in zip(key.columns, key.referenced, strict=True)
                )
                unique = any(set(columns) <= set(key.columns) for columns in source.unique_keys)
                found.append(ProposedJoin(name, target, on, parent, unique))
                if target is not relation:
                    below.append((name, name, target))
        level = below
    return found


def joins_by_name(
    dataset: str, relation: Relation, catalog: DatabaseCatalog, names: Names
) -> Iterator[ProposedJoin]:
    """Joins by columns that have the name and type of a key elsewhere, though no foreign key says so."""
    pointing = {column for key in relation.foreign_keys for column in key.columns}
    for column in relation.columns:
        if column.name in pointing or column.name in relation.primary_key or column.name.lower() == "id":
            continue
        for other in catalog.relations:
            there = other.column(column.name)
            if (
                other is not relation
                and other.readable
                and other.primary_key == (column.name,)
                and there is not None
                and there.sql_type.type is column.sql_type.type
            ):
                name = names.take(other.name, f"{other.schema}_{other.name}")
                on = f"{quote(name)}.{quote(column.name)} = {quote(dataset)}.{quote(column.name)}"
                yield ProposedJoin(name, other, on)


def _targets(relation: Relation, catalog: DatabaseCatalog) -> Iterator[tuple[ForeignKey, Relation]]:
    for key in relation.foreign_keys:
        target = catalog.relation(key.schema, key.table)
        if target is not None and target.readable:
            yield key, target
