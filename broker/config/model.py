"""Builds the semantic model from the schema: names are resolved, SQL is read, and rules across members are checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from broker.config.document import Path
from broker.config.expressions import Expression
from broker.config.members import Scope, build_dimension, build_measure, check_ratio
from broker.config.policy_terms import policy_terms
from broker.config.report import Report
from broker.config.rollups import build_rollups
from broker.config.schema import Config
from broker.config.schema_data import DatasetConfig, JoinConfig
from broker.config.shape import Removed
from broker.config.sql_text import read_table, show_table
from broker.domain.fingerprint import fingerprint
from broker.domain.measures import ORDERED
from broker.domain.model import Dataset, Dimension, Join, Measure, MeasureKind, Model, RowPolicy
from broker.domain.values import DataType
from broker.policy.conditions import nearest
from broker.policy.fanout import fan_out_violation, multiplying_joins

CALLER_VALUES = ("tenant", "principal", "attributes.")


def build_model(config: Config, removed: Removed, report: Report) -> Model:
    """The model. What is wrong is reported, and the model then holds only what is right."""
    datasets: dict[str, Dataset] = {}
    for name, given in config.datasets.items():
        dataset = _Builder(name, given, removed, report).build()
        members: dict[str, Collection[str]] = {"dimension": given.dimensions, "measure": given.measures}
        rollups = build_rollups(given.rollups, dataset, members, removed, report)
        # Rollups change how an answer is found, not what it is, but for the digits of decimals that they store.
        stored = replace(dataset, rollups=rollups)
        version = fingerprint(dataset, *(name for name in sorted(dataset.measures) if stored.rounds(name)))
        ages = dict(given.cache)  # nor do ages change what an answer is
        kept = given.sample
        datasets[name] = replace(
            dataset,
            version=version,
            rollups=rollups,
            sample_blocks=kept.blocks,
            sample_every=kept.every,
            **ages,
        )
    versions = {name: (dataset.version, dataset.rollups) for name, dataset in datasets.items()}
    return Model(datasets, fingerprint(versions))


class _Builder:
    """Builds one dataset."""

    def __init__(self, name: str, given: DatasetConfig, removed: Removed, report: Report) -> None:
        self.name = name
        self.given = given
        self.path: Path = ("datasets", name)
        self.removed = removed
        self.report = report
        aliases = (name, *given.joins, *removed.children((*self.path, "joins")))
        self.scope = Scope(name, aliases, removed, report)

    def build(self) -> Dataset:
        given = self.given
        joins = self._joins()
        dimensions: dict[str, Dimension] = {}
        for name, config in given.dimensions.items():
            dimension = build_dimension(name, config, (*self.path, "dimensions", name), self.scope)
            if dimension is not None:
                dimensions[name] = dimension
        self._names()
        default = self._default_time(dimensions)
        dataset = Dataset(
            name=self.name,
            table=self._table(given.table, (*self.path, "table")),
            dimensions=dimensions,
            measures={},
            joins=joins,
            primary_key=tuple(given.primary_key),
            primary_key_types=tuple(given.primary_key.values()),
            default_time=given.default_time,
            title=given.title,
            description=given.description,
            grants=tuple(given.grants),
            max_staleness=given.max_staleness,
        )
        for column, kind in given.primary_key.items():
            if kind is DataType.DECIMAL:
                self.report(
                    (*self.path, "primary_key", column), "a key cannot be of type decimal; leave the key out"
                )
        dataset = replace(dataset, measures=self._measures(default))
        dataset = replace(dataset, row_policies=tuple(self._policies(dataset)))
        self._answerable(dataset)
        return dataset

    def _table(self, text: str, path: Path) -> str:
        table = read_table(text)
        if table is None:
            if not self.removed.within(path):
                self.report(path, f"{text!r} is not the name of a table; give it as `schema.table`")
            return text
        return show_table(*table)

    def _names(self) -> None:
        for name in self.given.measures:
            if name in self.given.dimensions:
                self.report(
                    (*self.path, "measures", name),
                    "is the name of a dimension too; rename one, answers hold both",
                )
        for name in self.given.joins:
            if name == self.name:
                self.report((*self.path, "joins", name), "is the name of the dataset; rename the join")
        if not self.given.dimensions and not self.given.measures and not self.removed.within(self.path):
            self.report(self.path, "has neither dimensions nor measures; declare what can be asked")

    def _default_time(self, dimensions: Mapping[str, Dimension]) -> Dimension | None:
        name = self.given.default_time
        if not name or self.removed.may_hold((*self.path, "dimensions", name)):
            return None
        known = dimensions.get(name)
        if known is not None and known.time:
            return known
        if known is None and name in self.given.dimensions:
            return None  # reported on its own
        times = [dimension.name for dimension in dimensions.values() if dimension.time]
        hint = nearest(name if known is None else "", times)
        problem = f"there is no dimension {name!r}" if known is None else f"{name!r} is not a time dimension"
        self.report((*self.path, "default_time"), f"{problem}{hint}")
        return None

    def _joins(self) -> dict[str, Join]:
        joins: dict[str, Join] = {}
        for name, given in self.given.joins.items():
            path = (*self.path, "joins", name)
            ancestors = self._ancestors(name, given, path)
            table = self._table(given.table, (*path, "table"))
            condition = None if self.removed.within(path) else self.scope.read(given.on, (*path, "on"))
            if condition is None or ancestors is None or name == self.name:
                continue
            joins[name] = Join(name, table, condition.sql, given.parent or self.name, given.kind)
            self._condition(name, given, condition, ancestors, (*path, "on"))
        return joins

    def _ancestors(self, name: str, given: JoinConfig, path: Path) -> list[str] | None:
        """The joins above this one and the dataset, nearest first; None when that is not to be found."""
        found: list[str] = []
        parent = given.parent or self.name
        while parent != self.name:
            if parent == name or parent in found:
                self._circle(name, parent, found, path)
                return None
            if parent not in self.given.joins:
                if not self.removed.may_hold((*self.path, "joins", parent)) and not found:
                    hint = nearest(parent, [join for join in self.given.joins if join != name])
                    self.report((*path, "parent"), f"there is no join {parent!r}{hint}")
                return None
            found.append(parent)
            parent = self.given.joins[parent].parent or self.name
        return [*found, self.name]

    def _circle(self, name: str, parent: str, above: list[str], path: Path) -> None:
        """Reports a circle once, at the first of its joins."""
        order = list(self.given.joins)
        if parent == name and all(order.index(name) < order.index(other) for other in above):
            circle = " → ".join((name, *above, parent))
            self.report((*path, "parent"), f"joins go in a circle: {circle}; one must begin at {self.name!r}")

    def _condition(
        self, name: str, given: JoinConfig, condition: Expression, ancestors: list[str], path: Path
    ) -> None:
        parent = given.parent or self.name
        outside = [table for table in condition.tables if table != name and table not in ancestors]
        if outside:
            self.report(
                path, f"uses {outside[0]!r}, which is not joined before it; set `parent: {outside[0]}`"
            )
            return
        for needed in (name, parent):
            if needed not in condition.tables:
                self.report(path, f"does not mention {needed!r}, so every row would meet every other")

    def _measures(self, default: Dimension | None) -> dict[str, Measure]:
        measures: dict[str, Measure] = {}
        for name, config in self.given.measures.items():
            path = (*self.path, "measures", name)
            measure = build_measure(name, config, path, self.scope)
            if config.kind in ORDERED and not self.removed.within(path):
                self._order_known(config.kind, path)
            if measure is None:
                continue
            if measure.kind in ORDERED and default is not None:
                measure = replace(measure, tables=tuple(dict.fromkeys((*measure.tables, *default.tables))))
            measures[name] = measure
        for name, measure in list(measures.items()):
            if measure.kind is MeasureKind.RATIO and not check_ratio(
                measure, measures, self.given.measures, (*self.path, "measures"), self.scope
            ):
                del measures[name]
        return measures

    def _order_known(self, kind: MeasureKind, path: Path) -> None:
        for field in ("default_time", "primary_key"):
            if not getattr(self.given, field) and not self.removed.within((*self.path, field)):
                self.report(path, f"{kind} needs the dataset's `{field}`, to know the order of rows")

    def _policies(self, dataset: Dataset) -> Iterator[RowPolicy]:
        for name, given in self.given.row_policies.items():
            path = (*self.path, "row_policies", name)
            if self.removed.within(path):
                continue
            found = self.scope.read(given.sql, (*path, "sql"), values=CALLER_VALUES)
            if found is None or any(table not in (self.name, *dataset.joins) for table in found.tables):
                continue
            joins = multiplying_joins(dataset, found.tables)
            if joins:
                self.report(
                    (*path, "sql"), f"uses the one-to-many join {joins[0]!r}, which would repeat rows"
                )
            terms = policy_terms(found.sql, dataset.dimensions, CALLER_VALUES)
            yield RowPolicy(name, found.sql, found.tables, tuple(given.unless), terms)

    def _answerable(self, dataset: Dataset) -> None:
        """Every measure can be asked for alone."""
        for name, measure in dataset.measures.items():
            operands = (
                (measure.numerator, measure.denominator) if measure.kind is MeasureKind.RATIO else (name,)
            )
            tables = {table for operand in operands for table in dataset.measures[operand].tables}
            if not tables <= {dataset.name, *dataset.joins}:
                continue  # a join with an error of its own
            problem = fan_out_violation(dataset, (), (name,))
            if problem:
                self.report((*self.path, "measures", name), f"can never be asked for: {problem}")
