"""Compares the rollups of a dataset with the database: what they watch and read exists, fits, and can be watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from broker.config.document import Path
from broker.config.findings import Severity
from broker.config.sql_text import quote, read_table
from broker.config.verify_types import Remark, column_of, type_problem
from broker.domain.measures import order_keys, states
from broker.domain.model import Dataset
from broker.domain.relations import DatabaseCatalog, Relation, SqlType
from broker.domain.rollup import Rollup, Storage, Tracking
from broker.domain.values import DataType
from broker.policy.conditions import nearest
from broker.policy.rollups.definition import joins
from broker.ports.introspection import Introspector


async def verify_rollups(
    dataset: Dataset, relations: Mapping[str, Relation], catalog: DatabaseCatalog, database: Introspector
) -> list[Remark]:
    """Everything there is to say of the rollups. ``relations`` are those that exist, by their alias."""
    remarks: list[Remark] = []
    for rollup in dataset.rollups.values():
        path = ("datasets", dataset.name, "rollups", rollup.name)
        if rollup.tracking is Tracking.TRIGGERS:
            remarks += _watched(dataset, rollup, relations, path)
        if rollup.storage is Storage.EXTERNAL:
            remarks += _external(dataset, rollup, catalog, path)
        if rollup.tracking is Tracking.CHANGE_TOKEN:
            (described,) = await database.describe([rollup.token])
            if described.error:
                remarks.append(((*path, "token"), described.error, Severity.ERROR))
    remarks += _nulls(dataset, relations)
    return remarks


def _watched(
    dataset: Dataset, rollup: Rollup, relations: Mapping[str, Relation], path: Path
) -> Iterator[Remark]:
    """Only tables tell which of their rows a statement changed."""
    tables = {dataset.name: dataset.table} | {join.name: join.table for join in joins(dataset, [rollup])}
    for alias, table in tables.items():
        relation = relations.get(alias)
        if relation is not None and not relation.kind.stored:
            text = (
                f"{table} is a {relation.kind}, whose changes no trigger sees; "
                + ("use a table for the join" if alias != dataset.name else "base the dataset on a table")
                + ", or set `tracking` to append_only or change_token"
            )
            yield (*path, "tracking"), text, Severity.ERROR


def _external(dataset: Dataset, rollup: Rollup, catalog: DatabaseCatalog, path: Path) -> Iterator[Remark]:
    parts = read_table(rollup.relation)
    assert parts is not None
    relation = catalog.relation(*parts)
    shown = ".".join(parts)
    if relation is None:
        known = [f"{other.schema}.{other.name}" for other in catalog.relations]
        yield (
            (*path, "relation"),
            f"there is no table or view {shown!r}{nearest(shown, known)}",
            Severity.ERROR,
        )
        return
    if not relation.readable:
        role = catalog.server.role
        text = f"the role {role!r} may not read it: GRANT SELECT ON {rollup.relation} TO {role}"
        yield (*path, "relation"), text, Severity.ERROR
        return
    for member, name in rollup.columns.items():
        column = relation.column(name)
        at = (*path, "columns", _written(dataset, member))
        if column is None:
            hint = nearest(name, [known.name for known in relation.columns])
            yield at, f"{rollup.relation} has no column {name!r}{hint}", Severity.ERROR
        elif problem := _misfit(dataset, member, column.sql_type):
            yield at, f"{name!r} {problem}", Severity.ERROR


def _written(dataset: Dataset, member: str) -> str:
    """The key that a column is given by: measures of one state go by their own name."""
    measure = dataset.measures.get(member.rpartition(".")[0])
    return measure.name if measure is not None and len(states(measure, order_keys(dataset))) == 1 else member


def _misfit(dataset: Dataset, member: str, actual: SqlType) -> str:
    """Why a column cannot hold a dimension or a state; empty when it can."""
    dimension = dataset.dimensions.get(member)
    if dimension is not None:
        problem = type_problem(dimension.type, actual, stored_zone=dimension.stored_zone)
        return problem and f"is {actual.name}, and {member!r} is of type {dimension.type}"
    measure, _, name = member.rpartition(".")
    owned = {state.name: state.type for state in states(dataset.measures[measure], order_keys(dataset))}
    wanted = owned[name]
    exact = wanted is DataType.INT64 and actual.type is DataType.DECIMAL  # what sum() makes of bigint
    if exact or not type_problem(wanted, actual, stored_zone=""):
        return ""
    return f"is {actual.name}, and the state {member!r} is of type {wanted}"


def _nulls(dataset: Dataset, relations: Mapping[str, Relation]) -> Iterator[Remark]:
    """Rows without a time are in no bucket, so questions that may mean them are answered from the tables."""
    own = relations.get(dataset.name)
    for name in dict.fromkeys(rollup.time for rollup in dataset.rollups.values()):
        column = column_of(dataset.dimensions[name].sql, dataset.name, own) if own is not None else None
        if own is not None and column is not None and column.nullable and own.kind.stored:
            text = (
                "may be null, so questions without a time range are not answered from rollups: "
                f"ALTER TABLE {dataset.table} ALTER COLUMN {quote(column.name)} SET NOT NULL"
            )
            yield ("datasets", dataset.name, "dimensions", name), text, Severity.HINT
