"""Compares one dataset with the database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from broker.config.document import Path
from broker.config.expressions import functions_in
from broker.config.findings import Severity
from broker.config.sql_text import quote, read_table, rows
from broker.config.verify_joins import uniqueness_problem
from broker.config.verify_rollups import verify_rollups
from broker.config.verify_types import (
    Remark,
    boolean_problem,
    column_of,
    folding_problem,
    scale_problem,
    type_problem,
)
from broker.domain.model import Dataset, JoinKind, Measure, MeasureKind
from broker.domain.relations import DatabaseCatalog, Relation, SqlType
from broker.domain.values import DataType
from broker.policy.conditions import nearest
from broker.ports.introspection import Introspector

INDEX_WORTHWHILE = 100_000
"""Rows from which on a time range without an index is slow enough to mention."""
_CALLER = re.compile(r"\{(?:tenant|principal|attributes\.[a-z][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class _Check:
    """An expression to be described, and what is wrong with its type, if anything."""

    path: Path
    sql: str
    aliases: tuple[str, ...]
    judge: Callable[[SqlType], str]


class DatasetCheck:
    """Checks a dataset; what depends on something that is wrong already is passed over."""

    def __init__(self, dataset: Dataset, catalog: DatabaseCatalog, database: Introspector) -> None:
        self._dataset = dataset
        self._catalog = catalog
        self._database = database
        self._path: Path = ("datasets", dataset.name)
        self._relations: dict[str, Relation] = {}
        self._remarks: list[Remark] = []

    async def run(self) -> list[Remark]:
        """Everything there is to say, in no order."""
        dataset = self._dataset
        self._find(dataset.name, dataset.table, (*self._path, "table"))
        if dataset.name in self._relations:
            for name, join in dataset.joins.items():
                self._find(name, join.table, (*self._path, "joins", name, "table"))
            await self._joins()
            self._primary_key(self._relations[dataset.name])
            await self._describe(list(self._members()))
            self._indexes(self._relations[dataset.name])
            self._remarks += await verify_rollups(dataset, self._relations, self._catalog, self._database)
        return self._remarks

    def _say(self, path: Path, text: str, severity: Severity = Severity.ERROR) -> None:
        self._remarks.append((path, text, severity))

    def _find(self, alias: str, table: str, path: Path) -> None:
        parts = read_table(table)
        assert parts is not None
        relation = self._catalog.relation(*parts)
        shown = ".".join(parts)
        if relation is None:
            known = [f"{other.schema}.{other.name}" for other in self._catalog.relations]
            self._say(path, f"there is no table or view {shown!r}{nearest(shown, known)}")
        elif not relation.readable:
            role = self._catalog.server.role
            self._say(path, f"the role {role!r} may not read it: GRANT SELECT ON {table} TO {role}")
        else:
            self._relations[alias] = relation
            if relation.secured:
                text = (
                    f"row level security decides which rows of {table} the role {self._catalog.server.role!r} sees: "
                    "all callers see the same ones; give the broker a role with BYPASSRLS, and say in `row_policies` "
                    "what callers may see"
                )
                self._say(path, text, Severity.WARNING)

    def _usable(self, aliases: Sequence[str]) -> bool:
        """Whether the tables behind the aliases, and those they are joined to, are there."""
        return all(
            alias in self._relations
            and (alias == self._dataset.name or self._usable([self._dataset.joins[alias].parent]))
            for alias in aliases
        )

    async def _joins(self) -> None:
        """Conditions first: what uses a join that is wrong is passed over."""
        dataset = self._dataset
        for name, join in dataset.joins.items():
            path = (*self._path, "joins", name)
            if self._usable([name]) and not await self._describe(
                [_Check((*path, "on"), join.on, (name, join.parent), boolean_problem)]
            ):
                del self._relations[name]
            elif self._usable([name]) and join.kind is not JoinKind.ONE_TO_MANY:
                problem = await uniqueness_problem(join, self._relations[name], self._database)
                if problem is not None:
                    self._say(path, *problem)

    def _primary_key(self, relation: Relation) -> None:
        dataset = self._dataset
        path = (*self._path, "primary_key")
        for name, kind in zip(dataset.primary_key, dataset.primary_key_types, strict=True):
            column = relation.column(name)
            if column is None:
                hint = nearest(name, [known.name for known in relation.columns])
                self._say((*path, name), f"{dataset.table} has no column {name!r}{hint}")
            elif problem := type_problem(kind, column.sql_type):
                self._say((*path, name), problem)
        unique = any(set(key) <= set(dataset.primary_key) for key in relation.unique_keys)
        if dataset.primary_key and relation.kind.stored and not unique:
            text = "no unique index covers these columns; between rows with an equal key first and last choose any"
            self._say(path, text, Severity.WARNING)

    def _members(self) -> Iterator[_Check]:
        dataset = self._dataset
        for dimension in dataset.dimensions.values():
            path: Path = (*self._path, "dimensions", dimension.name)
            zone = dimension.stored_zone

            def fits(actual: SqlType, declared: DataType = dimension.type, zone: str = zone) -> str:
                return type_problem(declared, actual, stored_zone=zone)

            yield _Check(path, dimension.sql, dimension.tables, fits)
            self._scale(path, dimension.sql, dimension.type, dimension.scale)
            for alias, relation in self._relations.items():
                if problem := folding_problem(column_of(dimension.sql, alias, relation)):
                    self._say(path, problem, Severity.WARNING)
        for measure in dataset.measures.values():
            yield from self._measure(measure)
        for policy in dataset.row_policies:
            path = (*self._path, "row_policies", policy.name, "sql")
            yield _Check(path, _CALLER.sub("NULL::text", policy.sql), policy.tables, boolean_problem)

    def _measure(self, measure: Measure) -> Iterator[_Check]:
        path: Path = (*self._path, "measures", measure.name)

        def fits(actual: SqlType) -> str:
            return "" if measure.kind is MeasureKind.COUNT else type_problem(measure.type, actual)

        if measure.sql:
            yield _Check(path, measure.sql, measure.tables, fits)
            self._scale(path, measure.sql, measure.type, measure.scale)
        if measure.filter:
            yield _Check((*path, "filter"), measure.filter, measure.tables, boolean_problem)

    def _scale(self, path: Path, sql: str, kind: DataType, scale: int) -> None:
        if kind is DataType.DECIMAL:
            for alias, relation in self._relations.items():
                problem = scale_problem(scale, column_of(sql, alias, relation))
                if problem:
                    self._say(path, problem)

    async def _describe(self, checks: Sequence[_Check]) -> bool:
        """Has PostgreSQL look at expressions; whether all are right."""
        checks = [check for check in checks if self._usable(check.aliases)]
        described = await self._database.describe(
            [f"SELECT {check.sql} {rows(self._dataset, check.aliases)}" for check in checks]
        )
        called = {check: functions_in(check.sql) for check in checks}
        names = sorted({name for functions in called.values() for name in functions})
        facts = {function.name: function for function in await self._database.functions(names)}
        right = True
        for check, found in zip(checks, described, strict=True):
            problems = [found.error or check.judge(found.types[0])]
            for name in sorted(called[check] & set(facts)):
                if facts[name].volatile:
                    problems.append(
                        f"calls {name}(), which is volatile: its value may change from call to call"
                    )
                elif facts[name].aggregate or facts[name].returns_set:
                    problems.append(f"calls {name}(), which does not give one value per row")
            for problem in filter(None, problems):
                right = False
                self._say(check.path, problem)
        return right

    def _indexes(self, relation: Relation) -> None:
        dataset = self._dataset
        if not relation.kind.stored or relation.rows < INDEX_WORTHWHILE:
            return
        for dimension in dataset.dimensions.values():
            column = column_of(dimension.sql, dataset.name, relation)
            if dimension.time and column is not None and not relation.narrowed(column.name):
                index = f"CREATE INDEX ON {dataset.table} ({quote(column.name)})"
                text = f"no index begins with it, so every time range reads all rows: {index}"
                self._say((*self._path, "dimensions", dimension.name), text, Severity.HINT)
