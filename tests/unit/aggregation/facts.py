"""A small world: raw rows, the dataset over them, and what they hold for a measure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, TypeVar

from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.plan import Plan, Scan
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.values import DataType
from broker.policy.resolve import resolve_query

START = datetime(2024, 3, 29, tzinfo=UTC)
"""Two days before the clocks of Berlin change."""
K, T = MeasureKind, DataType
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Fact:
    """One raw row."""

    at: datetime
    id: int
    name: str | None
    flag: bool | None
    whole: int | None
    real: float | None
    exact: Decimal | None


def _dimension(name: str, kind: DataType, *, time: bool = False) -> Dimension:
    return Dimension(name, name, kind, ("facts",), time=time)


def _measure(name: str, kind: MeasureKind, sql: str = "", type: DataType = T.INT64, **more: Any) -> Measure:
    return Measure(name, kind, sql, type, tables=("facts",), **more)


MEASURES = (
    _measure("rows", K.COUNT),
    _measure("names", K.COUNT, "name"),
    _measure("whole_sum", K.SUM, "whole"),
    _measure("real_sum", K.SUM, "real", T.DOUBLE),
    _measure("exact_sum", K.SUM, "exact", T.DECIMAL, scale=2),
    _measure("whole_min", K.MIN, "whole"),
    _measure("name_max", K.MAX, "name", T.STRING),
    _measure("real_max", K.MAX, "real", T.DOUBLE),
    _measure("flag_min", K.MIN, "flag", T.BOOL),
    _measure("at_max", K.MAX, "at", T.TIMESTAMP),
    _measure("whole_avg", K.AVG, "whole"),
    _measure("exact_avg", K.AVG, "exact", T.DECIMAL, scale=2),
    _measure("real_variance", K.VARIANCE, "real", T.DOUBLE),
    _measure("whole_stddev", K.STDDEV, "whole"),
    _measure("name_first", K.FIRST, "name", T.STRING),
    _measure("whole_last", K.LAST, "whole"),
    _measure("name_distinct", K.APPROX_DISTINCT, "name", T.STRING),
    _measure("exact_distinct", K.APPROX_DISTINCT, "exact", T.DECIMAL, scale=2),
    _measure("real_median", K.APPROX_PERCENTILE, "real", T.DOUBLE, percentile=0.5),
    _measure("flag_exactly", K.EXACT_DISTINCT, "flag", T.BOOL),
    _measure("mean_ratio", K.RATIO, numerator="whole_sum", denominator="rows"),
    _measure("avg_ratio", K.RATIO, numerator="exact_sum", denominator="whole_avg"),
)
DATASET = Dataset(
    "facts",
    "facts",
    {
        d.name: d
        for d in (
            _dimension("at", T.TIMESTAMP, time=True),
            _dimension("name", T.STRING),
            _dimension("flag", T.BOOL),
        )
    },
    {m.name: m for m in MEASURES},
    primary_key=("id",),
    primary_key_types=(T.INT64,),
    default_time="at",
    version="1",
)


def plan(query: Query) -> Plan:
    """The plan that the broker makes of a query of the facts."""
    return resolve_query(query, DATASET, Principal("p", "t"), START)


def facts(chance: Random) -> list[Fact]:
    """Up to 60 facts of eight days, with ties in time and nulls everywhere."""

    def some(value: Value) -> Value | None:
        return None if chance.random() < 0.2 else value

    return [
        Fact(
            at=START + timedelta(hours=chance.randint(-96, 288) / 2),
            id=i,
            name=some(chance.choice(["", "a", "b", "é", "B"])),
            flag=some(chance.random() < 0.5),
            whole=some(chance.randint(-5, 9)),
            real=some(float("nan") if chance.random() < 0.05 else chance.randint(-40, 40) / 4),
            exact=some(Decimal(chance.choice([100, 150, -225, chance.randint(-300, 300)])).scaleb(-2)),
        )
        for i in range(chance.choice([0, 1, 8, 30, 60]))
    ]


def scanned(facts: list[Fact], scan: Scan) -> list[Fact]:
    """The facts that a scan reads."""
    bounds = scan.bounds
    return facts if bounds is None else [fact for fact in facts if bounds.start <= fact.at < bounds.end]


def rank(value: Any) -> tuple[bool, Any]:
    """A key that orders NaN above all numbers and equal to itself."""
    nan = isinstance(value, float) and math.isnan(value)
    return nan, 0 if nan else value


def inputs(measure: Measure, facts: list[Fact]) -> list[Any]:
    """What a measure aggregates: the values of its column, or every row."""
    return facts if not measure.sql else [v for f in facts if (v := getattr(f, measure.sql)) is not None]
