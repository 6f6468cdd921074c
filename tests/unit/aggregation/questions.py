"""Random queries of the facts, made from a seed so that every kind of calculation is common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

from broker.domain.measures import ADDITIVE, UNMERGEABLE, result_type
from broker.domain.query import (
    AbsoluteRange,
    AllOf,
    AnyOf,
    Calculations,
    CompareTo,
    Condition,
    Filter,
    Grain,
    Not,
    Operator,
    OrderKey,
    Query,
    RollingWindow,
    ShareOfTotal,
    TimeSelection,
    TopN,
)
from broker.domain.timegrid import build
from broker.domain.values import DataType
from tests.unit.aggregation.facts import DATASET, START, plan, rank

MERGEABLE = [name for name, m in DATASET.measures.items() if m.kind not in UNMERGEABLE]
WEEKS = AbsoluteRange(START - timedelta(days=2), START + timedelta(days=6))
COUNTS = {
    Operator.IS_NULL: 0,
    Operator.IS_NOT_NULL: 0,
    Operator.BETWEEN: 2,
    Operator.IN: 3,
    Operator.NOT_IN: 2,
}
VALUES: Mapping[DataType, Callable[[Random], Any]] = {
    DataType.INT64: lambda c: c.choice([c.randint(-6, 9), 2**70, -(2**70)]),
    DataType.DOUBLE: lambda c: c.choice([c.randint(-40, 40) / 4, float("nan")]),
    DataType.DECIMAL: lambda c: c.choice(
        [Decimal(c.randint(-3000, 3000)).scaleb(-3), Decimal("1e60"), Decimal("-1e60")]
    ),
    DataType.STRING: lambda c: c.choice(["", "a", "é", "zz"]),
    DataType.BOOL: lambda c: c.random() < 0.5,
    DataType.TIMESTAMP: lambda _: START,
}


def query(chance: Random) -> Query:
    """A valid query: any measures that merge, dimensions, time, calculations, having, order and limit."""
    measures = chance.sample(MERGEABLE, chance.randint(0, 4))
    dimensions = chance.sample(["name", "flag"], chance.randint(0, 2))
    time = _time(chance) if chance.random() < 0.7 else None
    grouped = time is not None and time.grain is not None
    if not measures and not dimensions and not grouped:
        measures = ["rows"]
    asked = Query("facts", tuple(measures), tuple(dimensions), time)
    asked = replace(asked, calculations=calculations(chance, asked, grouped=grouped))
    names = [column.name for column in plan(asked).columns]
    order = tuple(
        OrderKey(name, chance.random() < 0.5, chance.random() < 0.5)
        for name in chance.sample(names, min(len(names), chance.randint(0, 2)))
    )
    having = condition(chance, measures) if measures and chance.random() < 0.4 else None
    return replace(asked, order=order, having=having, limit=chance.choice([0, 0, 1, 5]))


def condition(chance: Random, measures: list[str], depth: int = 2) -> Filter:
    """A tree of conditions on finished measures."""
    shape = chance.choice([Condition, Not, AllOf, AnyOf]) if depth else Condition
    if shape is Not:
        return Not(condition(chance, measures, depth - 1))
    if shape is not Condition:
        children = tuple(condition(chance, measures, depth - 1) for _ in range(chance.randint(0, 3)))
        return AllOf(children) if shape is AllOf else AnyOf(children)
    name = chance.choice(measures)
    kind = result_type(DATASET.measures[name])[0]
    operators = [
        Operator.EQ,
        Operator.NE,
        Operator.IN,
        Operator.NOT_IN,
        Operator.IS_NULL,
        Operator.IS_NOT_NULL,
    ]
    if kind is not DataType.BOOL:
        operators += [Operator.LT, Operator.LE, Operator.GT, Operator.GE, Operator.BETWEEN]
    if kind is DataType.STRING:
        operators += [Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH]
    operator = chance.choice(operators)
    values = [VALUES[kind](chance) for _ in range(COUNTS.get(operator, 1))]
    if operator is Operator.BETWEEN:
        values.sort(key=rank)
    return Condition(name, operator, tuple(values))


def _time(chance: Random) -> TimeSelection:
    grain = chance.choice([None, Grain.HOUR, Grain.DAY, Grain.DAY, Grain.WEEK])
    zone = chance.choice(["UTC", "Europe/Berlin", "Asia/Kathmandu"])
    starts = build(WEEKS, grain or Grain.DAY, zone).starts
    longest = 12 if grain is Grain.HOUR else len(starts)
    first = chance.randint(0, len(starts) - 2)
    last = min(len(starts) - 1, first + chance.randint(1, longest))
    bounds = AbsoluteRange(starts[first], starts[last])
    return TimeSelection("at", grain, zone, bounds, grain is not None and chance.random() < 0.4)


def calculations(chance: Random, asked: Query, *, grouped: bool) -> Calculations:
    measures, time = asked.measures, asked.time
    top = compare = None
    if measures and asked.dimensions and chance.random() < 0.4:
        chosen = (chance.choice(asked.dimensions), chance.choice(measures))
        top = TopN(chance.randint(1, 3), *chosen, chance.random() < 0.5, chance.random() < 0.3)
    numeric = tuple(name for name in measures if result_type(DATASET.measures[name])[0].numeric)
    if time is not None and numeric and chance.random() < 0.4:
        unit = Grain.WEEK if time.grain is Grain.WEEK else Grain.DAY
        compare = CompareTo(chance.randint(1, 3), unit, numeric)
    keys = [*asked.dimensions, *(["at"] if grouped else [])]
    shares = [
        ShareOfTotal(name, tuple(chance.sample(keys, chance.randint(0, len(keys)))))
        for name in measures
        if DATASET.measures[name].kind in ADDITIVE and chance.random() < 0.6
    ]
    rolling = [RollingWindow(n, chance.randint(2, 4)) for n in measures if grouped and chance.random() < 0.4]
    return Calculations(top, compare, tuple(shares), tuple(rolling))
