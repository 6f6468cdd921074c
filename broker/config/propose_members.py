"""Dimensions and measures of a proposal, as lines of YAML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from broker.config.propose_columns import Judgement, Use, good_label, judge
from broker.config.propose_joins import ProposedJoin
from broker.config.propose_names import Names, flow, scalar, stem
from broker.config.sql_text import quote
from broker.domain.relations import Relation, RelationColumn
from broker.domain.values import DataType

MAX_DIMENSIONS = 40
MAX_AMOUNTS = 15
MAX_LABELS = 5
"""Own dimensions and amounts of a dataset, and dimensions of a joined table."""
_UNLIMITED_SCALE = 6
_USUAL_TIMES = ("time", "timestamp", "occurred", "ordered", "placed", "created", "started", "date", "day")


@dataclass(frozen=True, slots=True)
class Line:
    """A member: its name, its definition as YAML, a remark for the reader, and the column it comes from."""

    name: str
    text: str
    remark: str = ""
    column: RelationColumn | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.text}" + (f"  # {self.remark}" if self.remark else "")


def own_dimensions(judgements: Sequence[Judgement], names: Names) -> list[Line]:
    """The columns of the table itself that are worth grouping or filtering by."""
    wanted = (Use.TIME, Use.DIMENSION, Use.CODE_AND_AMOUNT, Use.IDENTIFIER)
    chosen = [judgement.column for judgement in judgements if judgement.use in wanted]
    return [_dimension(names.take(column.name), "", column) for column in chosen[:MAX_DIMENSIONS]]


def labels(join: ProposedJoin, names: Names) -> list[Line]:
    """The columns of a joined table that describe the row which points there."""
    target = join.relation
    chosen = [column for column in target.columns if good_label(column, target)]
    return [
        _dimension(names.take(f"{join.name}_{column.name}"), join.name, column)
        for column in chosen[:MAX_LABELS]
    ]


def measures(dataset: str, judgements: Sequence[Judgement], names: Names) -> Iterator[Line]:
    """A count of the rows, distinct counts of identifiers, sums and averages of amounts."""
    yield Line(names.take(dataset, "rows", f"{dataset}_rows"), "count")
    for column in (judgement.column for judgement in judgements if judgement.use is Use.IDENTIFIER):
        name = names.take(f"distinct_{stem(column.name)}", f"distinct_{column.name}")
        yield Line(name, flow({"kind": "approx_distinct", **_source(name, "", column), **_type(column)}))
    amounts = [j.column for j in judgements if j.use in (Use.AMOUNT, Use.CODE_AND_AMOUNT)]
    for column in amounts[:MAX_AMOUNTS]:
        for kind, word in (("sum", "total"), ("avg", "average")):
            taken = "total" in column.name.lower()  # total_total would be silly
            name = names.take(f"{kind if taken else word}_{column.name}", f"{kind}_{column.name}_value")
            text = flow({"kind": kind, **_source(name, "", column), **_type(column)})
            yield Line(name, text, _remark(column))


def default_time(judgements: Sequence[Judgement], relation: Relation) -> RelationColumn | None:
    """The time column that ranges are likely about: indexed or partitioned by, never null, of usual name, the first."""

    def rank(column: RelationColumn) -> tuple[bool, bool, int]:
        usual = [i for i, word in enumerate(_USUAL_TIMES) if word in column.name.lower()]
        return not relation.narrowed(column.name), column.nullable, min(usual, default=len(_USUAL_TIMES))

    times = [judgement.column for judgement in judgements if judgement.use is Use.TIME]
    return min(times, key=rank, default=None)


def left_out(judgements: Sequence[Judgement]) -> list[str]:
    """The columns that became nothing, with the reason."""
    nothing = [f"{j.column.name} ({j.why_not})" for j in judgements if j.use is Use.NOTHING]
    grouped = [
        j for j in judgements if j.use in (Use.TIME, Use.DIMENSION, Use.CODE_AND_AMOUNT, Use.IDENTIFIER)
    ]
    amounts = [j for j in judgements if j.use in (Use.AMOUNT, Use.CODE_AND_AMOUNT)]
    beyond = {j.column.name for j in (*grouped[MAX_DIMENSIONS:], *amounts[MAX_AMOUNTS:])}
    return nothing + [f"{j.column.name} (one of many)" for j in judgements if j.column.name in beyond]


def judgements_of(relation: Relation) -> list[Judgement]:
    """What becomes of each column."""
    return [judge(column, relation) for column in relation.columns]


def _dimension(name: str, alias: str, column: RelationColumn) -> Line:
    entries = _source(name, alias, column) | _type(column)
    if column.sql_type.type is DataType.TIMESTAMP and not column.sql_type.zoned:
        entries["stored_zone"] = "UTC"
    if column.comment:
        entries["description"] = scalar(" ".join(column.comment.split()))
    text = entries["type"] if set(entries) == {"type"} else flow(entries)
    return Line(name, text, _remark(column), column)


def _source(name: str, alias: str, column: RelationColumn) -> dict[str, str]:
    at = f"{quote(alias)}.{quote(column.name)}" if alias else quote(column.name)
    if column.sql_type.name == "inet":  # as everybody writes it; the plain conversion to text adds a netmask
        return {"sql": scalar(f"abbrev({at})")}
    if any(mark in column.name for mark in ".("):
        return {"sql": scalar(at)}
    if alias:
        return {"column": scalar(f"{alias}.{column.name}")}
    return {} if name == column.name else {"column": scalar(column.name)}


def _type(column: RelationColumn) -> dict[str, str]:
    kind, scale = column.sql_type.type, column.sql_type.scale
    assert kind is not None
    if kind is DataType.DECIMAL:
        return {"type": kind, "scale": str(max(scale, 0) if scale is not None else _UNLIMITED_SCALE)}
    return {"type": kind}


def _remark(column: RelationColumn) -> str:
    actual = column.sql_type
    if actual.type is DataType.DECIMAL and actual.scale is None:
        return "scale is a guess, the column sets none"
    if actual.type is DataType.TIMESTAMP and not actual.zoned:
        return "stored_zone is a guess, the column has none"
    return ""
