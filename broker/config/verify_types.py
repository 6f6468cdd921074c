"""Whether a type of PostgreSQL fits a declared one."""

from __future__ import annotations

from broker.config.document import Path
from broker.config.findings import Severity
from broker.config.sql_text import quote
from broker.domain.relations import Relation, RelationColumn, SqlType
from broker.domain.values import DataType

Remark = tuple[Path, str, Severity]
"""A path in the configuration, what is to be said of it, and how much it matters."""

_FITTING = {
    DataType.INT64: {DataType.INT64},
    DataType.DOUBLE: {DataType.DOUBLE, DataType.INT64, DataType.DECIMAL},
    DataType.DECIMAL: {DataType.DECIMAL, DataType.INT64},
    DataType.BOOL: {DataType.BOOL},
    DataType.STRING: {DataType.STRING},
    DataType.TIMESTAMP: {DataType.TIMESTAMP},
    DataType.DATE: {DataType.DATE},
}


def type_problem(declared: DataType, actual: SqlType, *, stored_zone: str | None = None) -> str:
    """Why values of a type cannot be read as declared, and what to do; empty when they can.

    ``stored_zone`` is that of a dimension; None for measures, which have none.
    """
    if actual.type is None:
        example = ", as …::text" if declared is DataType.STRING else ""
        return f"is declared as {declared} and is {actual.name}; convert it in `sql`{example}"
    if actual.type not in _FITTING[declared]:
        advice = f"declare `type: {actual.type}`, or convert it in `sql`"
        return f"is declared as {declared} and is {actual.name}; {advice}"
    if declared is DataType.TIMESTAMP and not actual.zoned:
        if stored_zone is None:
            return f"is {actual.name}; say in `sql` which zone it is in, as … AT TIME ZONE 'UTC'"
        if not stored_zone:
            return f"is {actual.name}; set `stored_zone` to the zone it is written in, such as UTC"
    if stored_zone and actual.zoned:
        return f"is {actual.name}, which needs no `stored_zone`; remove it"
    return ""


def boolean_problem(actual: SqlType) -> str:
    """Why an expression is no condition; empty when it is one."""
    return "" if actual.type is DataType.BOOL else f"is no condition, it is {actual.name}"


def scale_problem(declared: int, column: RelationColumn | None) -> str:
    """Why a declared number of digits loses some of a column; empty when it does not."""
    actual = column.sql_type.scale if column is not None else None
    if actual is None or actual <= declared:
        return ""
    return f"has {actual} digits after the point and is declared with {declared}; set `scale: {actual}`"


def folding_problem(column: RelationColumn | None) -> str:
    """Why filters on a column may find other texts than they name; empty when they do not."""
    if column is None or not column.folding:
        return ""
    told = f'declare `sql: {quote(column.name)} COLLATE "C"`'
    return (
        "has a nondeterministic collation: filters on the table find texts that differ in case or accents, those on "
        f"rollups and held answers do not, and texts cannot be searched; {told}"
    )


def column_of(sql: str, alias: str, relation: Relation) -> RelationColumn | None:
    """The column that an expression is, when it is nothing but a column of the relation."""
    prefix = f"{quote(alias)}."
    if not sql.startswith(prefix):
        return None
    return next((column for column in relation.columns if prefix + quote(column.name) == sql), None)
