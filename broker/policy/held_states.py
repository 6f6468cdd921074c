"""Which columns of a held table serve as the states that a question needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from broker.domain.measures import State, leaves, order_keys, states
from broker.domain.model import Dataset, Measure, MeasureKind
from broker.domain.plan import Finish, Leaf, Output, Plan, state_name
from broker.domain.values import Column, ColumnRole, DataType

_COUNTED = frozenset({MeasureKind.COUNT, MeasureKind.APPROX_DISTINCT, MeasureKind.EXACT_DISTINCT})
_SUMMED = frozenset({MeasureKind.SUM, MeasureKind.AVG})
_STATES = {
    MeasureKind.COUNT: {"n": MeasureKind.COUNT},
    MeasureKind.SUM: {"s": MeasureKind.SUM},
    MeasureKind.MIN: {"v": MeasureKind.MIN},
    MeasureKind.MAX: {"v": MeasureKind.MAX},
    MeasureKind.AVG: {"n": MeasureKind.COUNT, "s": MeasureKind.SUM},
}
"""The measures whose finished values are the states of a kind. Others cannot be told from their values."""


@dataclass(frozen=True, slots=True)
class Values:
    """States by the column of the held table that has them, and the finish that takes these states."""

    finish: Finish
    states: tuple[tuple[str, str], ...]


def values_of(plan: Plan, columns: Sequence[Column], *, merged: bool) -> Values | None:
    """Where the states of a plan are found among held columns; None when one is not there.

    Unless groups are ``merged``, finished values are taken as they are, whatever they were made from.
    """
    finish = replace(plan.finish, pushed_down=False)
    held = _Columns(plan.main.dataset, columns)
    if merged and not all(_exact(leaf.measure, plan.main.dataset) for leaf in finish.leaves):
        return None
    if not merged:
        found = [held.same(output.column.name) for output in finish.outputs]
        given = [name for name in found if name is not None]
        if len(given) == len(found):
            return _as_they_are(finish, plan.main.dataset, given)
    wanted = [
        (leaf, state, held.state(leaf.measure, state)) for leaf in finish.leaves for state in leaf.states
    ]
    pairs = tuple(
        (state_name(leaf.measure.name, state.name), column)
        for leaf, state, column in wanted
        if column is not None
    )
    return Values(finish, pairs) if len(pairs) == len(wanted) else None


def _exact(measure: Measure, dataset: Dataset) -> bool:
    """Whether sums of finished sums are the sum of the rows: not where rows may have digits that no answer shows.

    The rows of a dataset that a job made are such sums themselves.
    """
    if measure.kind not in _SUMMED or measure.type is not DataType.DECIMAL:
        return True
    return dataset.materialised is not None or dataset.rounds(measure.name)


def merging(dataset: Dataset, columns: Sequence[Column]) -> frozenset[str]:
    """The measures of a dataset that can be computed from columns at any coarser key."""
    held, keys = _Columns(dataset, columns), order_keys(dataset)
    return frozenset(
        name
        for name in dataset.measures
        if all(
            held.state(leaf, state) is not None
            for leaf in leaves(dataset, [name])
            for state in states(leaf, keys)
        )
    )


def present(dataset: Dataset, columns: Iterable[Column]) -> str | None:
    """A column that counts all rows of a group, so that it is 0 where a row stands for nothing; None without one."""
    for column in columns:
        if column.role is ColumnRole.MEASURE:
            measure = dataset.measures[column.name]
            if measure.kind is MeasureKind.COUNT and not measure.sql and not measure.filter:
                return column.name
    return None


class _Columns:
    """The measures of a held table, by what defines them: one definition may have several names."""

    def __init__(self, dataset: Dataset, columns: Iterable[Column]) -> None:
        self._dataset = dataset
        names = [column.name for column in columns if column.role is ColumnRole.MEASURE]
        self._by_definition = {self._definition(dataset.measures[name]): name for name in reversed(names)}

    def same(self, name: str) -> str | None:
        """The column that has the values of a measure."""
        return self._by_definition.get(self._definition(self._dataset.measures[name]))

    def state(self, measure: Measure, state: State) -> str | None:
        """The column that has a state of a measure, and merges like it."""
        kind = _STATES.get(measure.kind, {}).get(state.name)
        return (
            None if kind is None else self._by_definition.get(self._definition(replace(measure, kind=kind)))
        )

    def _definition(self, measure: Measure) -> tuple[object, ...]:
        kind = measure.kind
        match kind:
            case MeasureKind.RATIO:
                both = (measure.numerator, measure.denominator)
                return kind, *(self._definition(self._dataset.measures[name]) for name in both)
            case MeasureKind.COUNT:
                return kind, measure.sql, measure.filter
            case MeasureKind.APPROX_PERCENTILE | MeasureKind.EXACT_PERCENTILE:
                return kind, measure.sql, measure.filter, measure.type, measure.scale, measure.percentile
            case _:
                rounded = self._dataset.rounds(measure.name)
                return kind, measure.sql, measure.filter, measure.type, measure.scale, rounded


def _as_they_are(finish: Finish, dataset: Dataset, given: Sequence[str]) -> Values:
    """Finished values as states of measures that leave single values as they are."""
    leaves, outputs, pairs = [], [], []
    for output, held in zip(finish.outputs, given, strict=True):
        column = output.column
        counted = dataset.measures[column.name].kind in _COUNTED
        kind = MeasureKind.EXACT_DISTINCT if counted else MeasureKind.MAX
        measure = Measure(column.name, kind, type=column.type, scale=column.scale)
        leaves.append(Leaf(measure, (State("v", column.type, column.scale),)))
        outputs.append(Output(column))
        pairs.append((state_name(column.name, "v"), held))
    return Values(replace(finish, leaves=tuple(leaves), outputs=tuple(outputs)), tuple(pairs))
