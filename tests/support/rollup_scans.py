"""A dataset of rides with one rollup, and scans of it, for tests of what rollups can answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from broker.domain.model import Dataset, Dimension, Join, JoinKind, Measure, MeasureKind, RowPolicy
from broker.domain.plan import Scan
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Condition, Filter, Grain, Operator
from broker.domain.rollup import Coverage, Rollup, Rule, Segment, SegmentFile, Span, micros
from broker.domain.terms import Consistency
from broker.domain.timegrid import build
from broker.domain.values import DataType, Scalar
from broker.policy.rollups.candidates import Candidates

HOUR, DAY = 3_600_000_000, 86_400_000_000


def dimension(name: str, kind: DataType, table: str = "rides", *, time: bool = False) -> Dimension:
    return Dimension(name, f"{table}.{name}", kind, (table,), time=time)


DIMENSIONS = {
    d.name: d
    for d in (
        dimension("at", DataType.TIMESTAMP, time=True),
        dimension("billed", DataType.DATE, time=True),
        dimension("city", DataType.STRING),
        dimension("kind", DataType.STRING),
        dimension("tenant", DataType.STRING),
        dimension("seats", DataType.INT64),
        dimension("tag", DataType.STRING, "tags"),
    )
}
MEASURES = {
    m.name: m
    for m in (
        Measure("rides", MeasureKind.COUNT, tables=("rides",)),
        Measure("fare", MeasureKind.SUM, "rides.fare", DataType.DECIMAL, 2, tables=("rides",)),
        Measure("riders", MeasureKind.APPROX_DISTINCT, "rides.rider", tables=("rides",)),
        Measure("all_riders", MeasureKind.EXACT_DISTINCT, "rides.rider", tables=("rides",)),
        Measure("longest", MeasureKind.MAX, "rides.length", DataType.DOUBLE, tables=("rides",)),
    )
}
OWN_TENANT = RowPolicy("own", "rides.tenant = {tenant}", ("rides",), terms=(("tenant", "tenant"),))
OWN_CITY = RowPolicy(
    "town", "rides.city = {attributes.city}", ("rides",), terms=(("city", "attributes.city"),)
)
UNSAYABLE = RowPolicy("odd", "rides.city < {tenant}", ("rides",))
ALICE = Principal("alice", "acme")
ROLLUP = Rollup(
    "r", "rides", "at", ("city", "kind", "tenant"), ("rides", "fare", "riders"),
    (Grain.FIFTEEN_MINUTES, Grain.DAY),
)  # fmt: skip


def day(number: int, hour: int = 0, minute: int = 0) -> datetime:
    """A moment in March 2024, UTC; on the 31st the clocks of Berlin go forward."""
    return datetime(2024, 3, number, hour, minute, tzinfo=UTC)


def dataset(*rollups: Rollup) -> Dataset:
    tags = Join("tags", "public.tags", "tags.ride = rides.id", "rides", JoinKind.ONE_TO_MANY)
    return Dataset(
        "rides", "public.rides", DIMENSIONS, MEASURES, {"tags": tags}, (OWN_TENANT, OWN_CITY, UNSAYABLE),
        ("id",), (DataType.INT64,), "at", rollups={r.name: r for r in rollups},
    )  # fmt: skip


def scan(
    *rollups: Rollup,
    by: Sequence[str] = ("city",),
    measures: Sequence[str] = ("rides",),
    time: str = "at",
    bounds: tuple[datetime, datetime] | None = (day(1), day(20)),
    grain: Grain | None = None,
    zone: str = "UTC",
    where: Filter | None = None,
    policies: tuple[RowPolicy, ...] = (),
    principal: Principal = ALICE,
) -> Scan:
    own = dataset(*rollups)
    found = AbsoluteRange(*bounds) if bounds is not None else None
    return Scan(
        own,
        tuple(own.dimensions[name] for name in by),
        tuple(own.measures[name] for name in measures),
        own.dimensions[time] if time else None,
        found,
        build(found, grain, zone) if grain is not None and found is not None else None,
        where,
        policies,
        principal,
    )


def failed(asked: Scan, rollup: Rollup = ROLLUP, consistency: Consistency = Consistency.BOUNDED) -> set[Rule]:
    """The rules by which a rollup is passed over; none when it is accepted."""
    asked = replace(asked, dataset=dataset(rollup))
    checked = Candidates(asked.dataset).check(asked, consistency)
    assert len(checked.accepted) + len(checked.rejected) == 1
    return {rule for rejection in checked.rejected for rule in rejection.rules}


def is_(member: str, operator: Operator, *values: Scalar) -> Condition:
    return Condition(member, operator, values)


def segment(
    number: int, first: datetime, last: datetime, rows: int = 1000, *, sealed: bool = False
) -> Segment:
    files = (
        SegmentFile(Grain.FIFTEEN_MINUTES, rows, 0, ""),
        SegmentFile(Grain.DAY, max(1, rows // 50), 0, ""),
    )
    return Segment(number, span(first, last), 1, day(31), rows, 0, sealed, files)


def span(first: datetime, last: datetime) -> Span:
    return Span(micros(first), micros(last))


def covered(*segments: Segment, dirty: Sequence[Span] = (), rollup: str = "r") -> Coverage:
    sealed = tuple(segment.span for segment in segments if segment.sealed)
    return Coverage(rollup, segments, tuple(dirty), sealed=sealed)
