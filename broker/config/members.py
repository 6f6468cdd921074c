"""Dimensions and measures: from the schema to the domain, with the rules of each kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from zoneinfo import available_timezones

from broker.config.document import Path
from broker.config.expressions import Expression, read_column, read_expression
from broker.config.report import Report
from broker.config.schema_data import DimensionConfig, MeasureConfig
from broker.config.shape import Removed
from broker.domain.measures import result_type
from broker.domain.model import Dimension, Measure, MeasureKind
from broker.domain.values import DataType
from broker.policy.conditions import nearest

_TEMPORAL = (DataType.TIMESTAMP, DataType.DATE)
_PERCENTILES = (MeasureKind.APPROX_PERCENTILE, MeasureKind.EXACT_PERCENTILE)
_DISTRIBUTION = (MeasureKind.VARIANCE, MeasureKind.STDDEV, *_PERCENTILES)
_NUMERIC = (MeasureKind.SUM, MeasureKind.AVG, *_DISTRIBUTION)
_FOREIGN = {
    MeasureKind.COUNT: ("type", "scale", "percentile", "numerator", "denominator"),
    MeasureKind.RATIO: ("column", "sql", "type", "scale", "filter", "percentile"),
}
"""Keys that say nothing for a kind."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What expressions of a dataset may use, and where to report what is wrong with them."""

    own: str
    aliases: Collection[str]
    removed: Removed
    report: Report

    def read(self, sql: str, path: Path, *, values: Collection[str] | None = None) -> Expression | None:
        """An expression; None when something is wrong with it, which is reported."""
        found = read_expression(sql, self.own, self.aliases, values=values)
        if isinstance(found, Expression):
            return found
        for message in found:
            self.report(path, message)
        return None

    def read_either(self, column: str, sql: str, path: Path) -> Expression | None:
        """What a member is made of: its column or its expression."""
        if column and sql:
            self.report((*path, "sql"), "is given beside `column`; keep one")
            return None
        if sql:
            return self.read(sql, (*path, "sql"))
        found = read_column(column, self.own, self.aliases)
        if isinstance(found, str):
            self.report((*path, "column"), found)
            return None
        return found


def build_dimension(name: str, given: DimensionConfig, path: Path, scope: Scope) -> Dimension | None:
    """The dimension; None when it has an error."""
    if scope.removed.within(path):
        return None
    found = scope.read_either(given.column or ("" if given.sql else name), given.sql, path)
    scale = _scale(given.type, given.scale, path, scope)
    time = given.type in _TEMPORAL if given.time is None else given.time
    if time and given.type not in _TEMPORAL:
        scope.report((*path, "time"), f"a time dimension is of type timestamp or date, not {given.type}")
    if given.stored_zone:
        _zone(given, path, scope)
    if found is None:
        return None
    return Dimension(
        name=name,
        sql=found.sql,
        type=given.type,
        tables=found.tables,
        time=time,
        stored_zone=given.stored_zone,
        scale=scale,
        title=given.title,
        description=given.description,
    )


def build_measure(name: str, given: MeasureConfig, path: Path, scope: Scope) -> Measure | None:
    """The measure; None when it has an error. Whether the operands of a ratio are right is checked later."""
    if scope.removed.within(path):
        return None
    _foreign_keys(given, path, scope)
    if given.kind is MeasureKind.RATIO:
        for field in ("numerator", "denominator"):
            if not getattr(given, field):
                scope.report(path, f"a ratio needs a `{field}`: the name of another measure")
        parts: tuple[Expression | None, ...] = ()
    else:
        parts = tuple(_parts(given, path, scope))
    kind = _type(given, path, scope)
    scale = _scale(given.type, given.scale, path, scope)
    if None in parts or kind is None:
        return None
    expressions = [part for part in parts if part is not None]
    named = bool(given.column or given.sql)
    return Measure(
        name=name,
        kind=given.kind,
        sql=expressions[0].sql if named else "",
        type=kind,
        scale=scale,
        filter=expressions[-1].sql if given.filter else "",
        percentile=0.5 if given.percentile is None else given.percentile,
        numerator=given.numerator,
        denominator=given.denominator,
        tables=tuple(dict.fromkeys(table for part in expressions for table in part.tables)),
        title=given.title,
        description=given.description,
        unit=given.unit,
    )


def check_ratio(
    measure: Measure,
    measures: Mapping[str, Measure],
    declared: Collection[str],
    path: Path,
    scope: Scope,
) -> bool:
    """Whether the operands of a ratio exist and are numbers; what is wrong is reported."""
    right = True
    for field in ("numerator", "denominator"):
        name = getattr(measure, field)
        at = (*path, measure.name, field)
        operand = measures.get(name)
        if not name or (operand is None and (name in declared or scope.removed.may_hold((*path, name)))):
            right = False  # reported on its own
        elif name == measure.name:
            scope.report(at, "a ratio cannot be made of itself")
            right = False
        elif operand is None:
            others = [known for known in declared if known != measure.name]
            scope.report(at, f"there is no measure {name!r}{nearest(name, others)}")
            right = False
        elif operand.kind is MeasureKind.RATIO:
            scope.report(at, f"{name!r} is a ratio itself; name the measures it is made of")
            right = False
        elif not result_type(operand)[0].numeric:
            scope.report(at, f"{name!r} is of type {operand.type}; a ratio needs numbers")
            right = False
    return right


def _foreign_keys(given: MeasureConfig, path: Path, scope: Scope) -> None:
    foreign = list(_FOREIGN.get(given.kind, ("numerator", "denominator")))
    if given.kind not in (*_FOREIGN, *_PERCENTILES):
        foreign.append("percentile")
    for field in foreign:
        if getattr(given, field) not in ("", None):
            scope.report((*path, field), f"says nothing for a measure of kind {given.kind}; remove it")


def _parts(given: MeasureConfig, path: Path, scope: Scope) -> list[Expression | None]:
    parts: list[Expression | None] = []
    if given.column or given.sql:
        parts.append(scope.read_either(given.column, given.sql, path))
    elif given.kind is not MeasureKind.COUNT:
        scope.report(path, f"{given.kind} needs a `column` or `sql`: what to aggregate")
        parts.append(None)
    if given.filter:
        parts.append(scope.read(given.filter, (*path, "filter")))
    return parts


def _type(given: MeasureConfig, path: Path, scope: Scope) -> DataType | None:
    if given.kind in _FOREIGN:
        return DataType.INT64
    if given.type is None:
        if given.kind in _DISTRIBUTION:
            return DataType.DOUBLE
        numbers = [kind for kind in DataType if kind.numeric or given.kind not in _NUMERIC]
        scope.report(path, f"{given.kind} needs the `type` of its values: {', '.join(numbers)}")
        return None
    if given.kind in _NUMERIC and not given.type.numeric:
        scope.report(
            (*path, "type"), f"{given.kind} needs numbers: int64, double or decimal, not {given.type}"
        )
        return None
    return given.type


def _scale(kind: DataType | None, scale: int | None, path: Path, scope: Scope) -> int:
    if kind is DataType.DECIMAL and scale is None:
        scope.report(path, "a decimal needs its `scale`, the number of digits after the point")
    if kind is not DataType.DECIMAL and scale is not None:
        scope.report((*path, "scale"), "only a decimal has a scale; remove it, or set `type: decimal`")
    return scale or 0


def _zone(given: DimensionConfig, path: Path, scope: Scope) -> None:
    if given.type is not DataType.TIMESTAMP:
        scope.report((*path, "stored_zone"), f"only a timestamp is stored in a zone, not a {given.type}")
    zones = available_timezones()
    if given.stored_zone not in zones:
        hint = nearest(given.stored_zone, sorted(zones))
        scope.report((*path, "stored_zone"), f"there is no time zone {given.stored_zone!r}{hint}")
