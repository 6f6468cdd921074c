"""What a column is good for: a judgement from its type, its statistics, its keys and, last, its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from broker.domain.relations import Relation, RelationColumn
from broker.domain.values import DataType

GROUPS = 10_000
"""Most distinct values of a dimension that are still worth grouping by."""
CODES = 50
"""Most distinct values of an integer that looks like a code rather than an amount."""
_NEARLY_UNIQUE = 0.5
_CODE = re.compile(
    r"(^|_)(year|month|week|day|weekday|hour|minute|quarter|code|type|kind|status|state|level|class|category|rank|"
    r"number|no|nr|num|zip|postcode|port|version|flag|index|position|order)$|^is_|^has_",
)
_PROSE = re.compile(
    r"(^|_)(description|note|notes|comment|comments|body|text|content|message|url|uri|email|mail|phone|address|street|"
    r"password|hash|token|secret|payload|path|title|subject)$",
)
_COORDINATE = re.compile(r"(^|_)(lat|lon|lng|latitude|longitude)$")
_IDENTIFIER = re.compile(r"(^|_)(id|uuid|guid|key)$")


class Use(Enum):
    """What a column becomes."""

    TIME = auto()
    DIMENSION = auto()
    AMOUNT = auto()
    CODE_AND_AMOUNT = auto()
    IDENTIFIER = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Judgement:
    """A column and what it becomes; ``why_not`` says why it becomes nothing."""

    column: RelationColumn
    use: Use
    why_not: str = ""


def judge(column: RelationColumn, relation: Relation) -> Judgement:
    """What the column becomes in a dataset over the relation."""
    kind = column.sql_type.type
    pointing = any(column.name in key.columns for key in relation.foreign_keys)
    identifies = (
        pointing or _IDENTIFIER.search(column.name.lower()) is not None or column.sql_type.name == "uuid"
    )
    if kind is None:
        return Judgement(column, Use.NOTHING, f"is {column.sql_type.name}")
    if column.name in relation.primary_key and len(relation.primary_key) == 1:
        return Judgement(column, Use.NOTHING, "is the key")
    if kind in (DataType.TIMESTAMP, DataType.DATE):
        return Judgement(column, Use.TIME)
    if identifies and kind in (DataType.INT64, DataType.STRING, DataType.DECIMAL):
        return Judgement(column, Use.IDENTIFIER)
    if kind is DataType.BOOL:
        return Judgement(column, Use.DIMENSION)
    if kind is DataType.STRING:
        return _text(column, relation)
    return _number(column, in_key=column.name in relation.primary_key)


def good_label(column: RelationColumn, relation: Relation) -> bool:
    """Whether a column of a joined table says something about the row that points there."""
    judgement = judge(column, relation)
    if judgement.use is Use.DIMENSION:
        return column.sql_type.type is not DataType.BOOL or column.name.lower().startswith(("is_", "has_"))
    named = column.name.lower() in ("name", "title", "label")
    return named and column.sql_type.type is DataType.STRING


def _text(column: RelationColumn, relation: Relation) -> Judgement:
    if _many(column, relation):
        return Judgement(column, Use.NOTHING, "has too many values")
    if column.distinct is None and _PROSE.search(column.name.lower()):
        return Judgement(column, Use.NOTHING, "looks like prose")
    return Judgement(column, Use.DIMENSION)


def _number(column: RelationColumn, *, in_key: bool) -> Judgement:
    name, whole = column.name.lower(), column.sql_type.type is DataType.INT64
    few = column.distinct is not None and column.distinct <= CODES
    if _COORDINATE.search(name):
        return Judgement(column, Use.NOTHING, "is a coordinate")
    if in_key or _CODE.search(name):  # a part of a key tells rows apart: its sum means nothing
        return Judgement(column, Use.DIMENSION)
    return Judgement(column, Use.CODE_AND_AMOUNT if whole and few else Use.AMOUNT)


def _many(column: RelationColumn, relation: Relation) -> bool:
    """Whether the column has too many distinct values to group by, as far as statistics tell."""
    if (column.name,) in relation.unique_keys:
        return True
    if column.distinct is None:
        return False
    nearly_unique = relation.rows > CODES and column.distinct > relation.rows * _NEARLY_UNIQUE
    return column.distinct > GROUPS or nearly_unique
