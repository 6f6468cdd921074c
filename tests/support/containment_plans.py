"""Questions about rides, and one whose answer is held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from broker.domain.model import Dataset, Measure, MeasureKind
from broker.domain.plan import Plan
from broker.domain.principal import Principal
from broker.domain.query import (
    AbsoluteRange,
    Condition,
    Filter,
    Grain,
    Operator,
    Query,
    TimeSelection,
)
from broker.domain.values import DataType
from broker.policy.resolve import resolve_query
from tests.support import rollup_scans
from tests.support.rollup_scans import ALICE, ROLLUP, day

COUNT, SUM = MeasureKind.COUNT, MeasureKind.SUM
MORE = (
    Measure("paid", COUNT, "rides.fare", DataType.DECIMAL, 2, tables=("rides",)),
    Measure("trips", COUNT, tables=("rides",)),
    Measure("short", COUNT, filter="rides.length < 1", tables=("rides",)),
    Measure("mean_fare", MeasureKind.AVG, "rides.fare", DataType.DECIMAL, 2, tables=("rides",)),
    Measure("mean_length", MeasureKind.AVG, "rides.length", DataType.DOUBLE, tables=("rides",)),
    Measure("spread", MeasureKind.STDDEV, "rides.fare", DataType.DECIMAL, 2, tables=("rides",)),
    Measure("first_fare", MeasureKind.FIRST, "rides.fare", DataType.DECIMAL, 2, tables=("rides",)),
    Measure("fare_per_ride", MeasureKind.RATIO, numerator="fare", denominator="rides"),
    Measure("lowest", MeasureKind.MIN, "rides.fare", DataType.DECIMAL, 2, tables=("rides",)),
)


def dataset(*policies: Any, version: str = "1", stored: Sequence[str] = ("fare", "mean_fare")) -> Dataset:
    """The rides; decimals that are ``stored`` have their digits in every row."""
    own = rollup_scans.dataset(replace(ROLLUP, measures=tuple(stored)))
    measures = {**own.measures, **{m.name: m for m in MORE}}
    return replace(own, measures=measures, row_policies=policies, version=version)


MARCH = (day(1), day(31))


def during(
    first: datetime, last: datetime, grain: Grain | None = Grain.DAY, zone: str = "UTC", **more: Any
) -> TimeSelection:
    return TimeSelection("at", grain, zone, AbsoluteRange(first, last), **more)


def plan(
    *measures: str,
    by: tuple[str, ...] = ("city",),
    time: TimeSelection | None = during(*MARCH),  # noqa: B008 - a value that never changes
    where: Filter | None = None,
    own: Dataset | None = None,
    who: Principal = ALICE,
    **more: Any,
) -> Plan:
    query = Query("rides", measures or ("rides",), by, time, where, **more)
    return resolve_query(query, own or dataset(), who, day(1))


def is_(member: str, operator: Operator, *values: Any) -> Condition:
    return Condition(member, operator, values)


def keys_of(held: Plan) -> Plan:
    """The question for the keys alone."""
    return resolve_query(replace(held.query, measures=()), dataset(), ALICE, day(1))


BERLIN = is_("city", Operator.EQ, "Berlin")
BIG = is_("city", Operator.IN, "Berlin", "Paris", "Rome")
VANS = is_("kind", Operator.EQ, "van")
LATER = is_("at", Operator.GE, day(10))
NOON = is_("at", Operator.GE, day(10, 12))
HELD = plan("rides", "fare", by=("city", "kind"))
"""What most questions here are put to: rides and fares by city and kind, by day of UTC."""
