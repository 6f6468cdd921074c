"""Refuses questions in which a one-to-many join would repeat rows under a measure.

A one-to-many join repeats each row of its parent once per joined row. A sum over the parent's columns would then count
the same row several times, so a question may use such a join only if every measure belongs to the joined side: a
measure that reads columns of the joined table, or of a table below it, has one value per joined row and stays right.
Measures that do not mind repetition (minimum, maximum, distinct counts, first, last) may always be asked. Two
one-to-many joins on different branches pair every row of one with every row of the other, and no measure survives that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from broker.domain.measures import leaves
from broker.domain.model import Dataset, JoinKind, MeasureKind

_REPETITION_PROOF = frozenset({
    MeasureKind.MIN,
    MeasureKind.MAX,
    MeasureKind.APPROX_DISTINCT,
    MeasureKind.EXACT_DISTINCT,
    MeasureKind.FIRST,
    MeasureKind.LAST,
})  # fmt: skip


def multiplying_joins(dataset: Dataset, tables: Iterable[str]) -> tuple[str, ...]:
    """The one-to-many joins on the way from the dataset's own table to any of the aliases, in the order declared."""
    path = {alias for table in tables for alias in _path(dataset, table)}
    return tuple(
        name for name, join in dataset.joins.items() if name in path and join.kind is JoinKind.ONE_TO_MANY
    )


def fan_out_violation(dataset: Dataset, dimensions: Sequence[str], measures: Sequence[str]) -> str | None:
    """What is wrong with using the dimensions and measures in one question, and what to do; None when nothing is.

    ``dimensions`` are all that the question uses: grouped by, filtered by, and the time dimension. All names must
    exist.
    """
    if not any(join.kind is JoinKind.ONE_TO_MANY for join in dataset.joins.values()):
        return None
    owned = leaves(dataset, measures)
    origin: dict[str, str] = {}
    for user, tables in [
        *((f"dimension {name!r}", dataset.dimensions[name].tables) for name in dimensions),
        *((f"measure {measure.name!r}", measure.tables) for measure in owned),
    ]:
        for join in multiplying_joins(dataset, tables):
            origin.setdefault(join, user)
    if not origin:
        return None
    for i, join in enumerate(origin):
        for other in list(origin)[i + 1 :]:
            if join not in _path(dataset, other) and other not in _path(dataset, join):
                return (
                    f"{origin[join]} needs the one-to-many join {join!r} and {origin[other]} the one-to-many join "
                    f"{other!r}; together they pair every row of one with every row of the other: ask two questions"
                )
    for measure in owned:
        if measure.kind in _REPETITION_PROOF:
            continue
        own = multiplying_joins(dataset, measure.tables)
        for join, user in origin.items():
            if join not in own:
                fine = ", ".join(_safe_measures(dataset, frozenset(origin)))
                return (
                    f"{user} needs the one-to-many join {join!r}, which repeats rows under measure {measure.name!r}: "
                    "ask for the measure without it"
                    + (f", or use a measure that stays right beside it: {fine}" if fine else "")
                )
    return None


def _safe_measures(dataset: Dataset, joins: frozenset[str]) -> list[str]:
    """The measures that may be asked beside all of the joins; at most eight, to keep the advice readable."""
    found = [
        name
        for name in dataset.measures
        if all(
            leaf.kind in _REPETITION_PROOF or joins <= frozenset(multiplying_joins(dataset, leaf.tables))
            for leaf in leaves(dataset, [name])
        )
    ]
    return found[:8]


def _path(dataset: Dataset, alias: str) -> list[str]:
    """The joins from the dataset's own table to the alias, the alias first."""
    path = []
    while alias != dataset.name:
        path.append(alias)
        alias = dataset.joins[alias].parent
    return path
