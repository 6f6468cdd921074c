"""A mirror with the segments of one rollup, and what was last seen of them: a world without a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from broker.aggregation import segment_write, tasks
from broker.domain.answer import (
    Answer,
)
from broker.domain.deadline import Deadline
from broker.domain.measures import order_keys, states
from broker.domain.plan import BUCKET, Finish, Leaf, Rows, ScanResult, key_name, state_name
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Grain, Query, TimeSelection
from broker.domain.request import CallContext, RequestKind
from broker.domain.rollup import Coverage, Segment, Span, instant, micros
from broker.domain.segment import SegmentBuild
from broker.domain.terms import AnswerPolicy
from broker.domain.timegrid import build
from broker.domain.values import Column, DataType, ResultFormat
from broker.pipeline.rolled import Rolled
from broker.pipeline.routes import Router
from broker.pipeline.stage import Group, Question
from broker.pipeline.stale_rollup import StaleRollup
from broker.policy.classify import Classifier, Subject
from broker.policy.resolve import resolve_query
from broker.rollups.mirror import Mirror
from querybroker.v1 import answer_pb2
from tests.support.rollup_scans import OWN_TENANT, ROLLUP, dataset, day, span
from tests.support.segments import FakeSegments, HandClock

BOTH = dataset(replace(ROLLUP, name="by_city", dimensions=("city", "tenant"), measures=("rides",)))
RIDES = replace(BOTH, row_policies=(OWN_TENANT,))
BY_CITY = RIDES.rollups["by_city"]
FIRST, SECOND = span(day(1), day(10)), span(day(10), day(20))
ALICE = Principal("alice", "acme")
CLASSIFIED = Classifier().classify(Subject(RequestKind.DASHBOARD, ""), 0.0)
QUARTER = 900_000_000
Facts = Mapping[tuple[datetime, str, str], int]
FACTS: Facts = {
    (day(n, hour, 15 * (n % 4)), city, tenant): n + hour
    for n in range(1, 20)
    for hour in (0, 9, 23)
    for city in ("Berlin", "Paris")
    for tenant in ("acme", "globex")
}


def segment(
    store: FakeSegments, number: int, own: Span, facts: Facts, as_of: datetime, version: int = 1
) -> Segment:
    """A partition of the facts, which the store has."""
    start, end = instant(own.lo), instant(own.hi)
    assert start is not None
    assert end is not None
    grid = build(AbsoluteRange(start, end), Grain.FIFTEEN_MINUTES, "UTC")
    stored = tuple(RIDES.dimensions[name] for name in BY_CITY.dimensions)
    leaf = Leaf(RIDES.measures["rides"], states(RIDES.measures["rides"], order_keys(RIDES)))
    names = (BUCKET, key_name(0), key_name(1), state_name("rides", leaf.states[0].name))
    kinds = (DataType.INT64, DataType.STRING, DataType.STRING, DataType.INT64)
    rows = tuple(
        ((micros(at) - own.lo) // QUARTER, city, tenant, count)
        for (at, city, tenant), count in facts.items()
        if own.lo <= micros(at) < own.hi
    )
    wanted = SegmentBuild(own, grid, stored, (leaf,), BY_CITY.grains)
    made = segment_write.build(ScanResult((Rows(tuple(map(Column, names, kinds)), rows),)), wanted)
    for file, data in zip(made.files, made.data, strict=True):
        store.data[number, file.grain] = data
    size = sum(map(len, made.data))
    return Segment(number, own, version, as_of, made.row_count, size, files=made.files)


class Workers:
    """Does in this process what worker processes do."""

    async def table(
        self,
        _: PoolName,
        results: tuple[ScanResult, ...],
        finish: Finish,
        encoding: ResultFormat,
        __: Deadline,
    ) -> Any:
        (made,) = tasks.table(results, finish, encoding)
        return _Table(made.row_count, made.data)


@dataclass
class _Table:
    row_count: int
    encoded: bytes


class _Model:
    datasets: Mapping[str, object] = {"rides": RIDES}


@dataclass
class World:
    """A mirror with segments, and what was last seen of them."""

    clock: HandClock
    mirror: Mirror
    router: Router
    rung: StaleRollup
    now: datetime

    def ago(self, seconds: float) -> datetime:
        return self.now - timedelta(seconds=seconds)

    def learn(self, *segments: Segment, dirty: tuple[Span, ...] = (), age: float = 10.0, **more: Any) -> None:
        self.router.learn(RIDES, [Coverage("by_city", segments, dirty, **more)], self.ago(age))

    async def ask(self, given: Query, principal: Principal | None = None, **policy: Any) -> Any:
        """The answer of the rung, or its step."""
        plan = resolve_query(given, RIDES, principal or ALICE, day(30))
        if principal is None:
            plan = replace(plan, main=replace(plan.main, policies=()))
        asked = AnswerPolicy(**policy)
        question = Question("", plan, asked, ResultFormat.COLUMNS, CLASSIFIED)
        context = CallContext("", ALICE, Deadline(2000.0), self.now, "dashboard")
        group = Group(context, RequestKind.DASHBOARD, (question,))
        return await self.rung.answer(question, group, Deadline(2000.0))


def world_of(mirror: Mirror, clock: HandClock) -> World:
    model: Any = _Model()
    workers: Any = Workers()
    router = Router(model)
    return World(
        clock, mirror, router, StaleRollup(router, mirror, Rolled(mirror), workers, clock), clock.now()
    )


def asked(start: datetime | None = None, end: datetime | None = None, **more: Any) -> Query:
    time = TimeSelection(range=AbsoluteRange(start or day(1), end or day(20)))
    return Query("rides", ("rides",), ("city",), time=time, **more)


def truth(lo: datetime, hi: datetime, facts: Facts = FACTS, tenant: str = "") -> dict[str, int]:
    found: Counter[str] = Counter()
    for (at, city, own), count in facts.items():
        if lo <= at < hi and tenant in ("", own):
            found[city] += count
    return dict(found)


def rows(answer: Any) -> dict[str, int]:
    assert isinstance(answer, Answer), answer
    names, counts = answer_pb2.Table.FromString(answer.table.encoded).columns.columns
    cities = [names.string_values.dictionary[i] for i in names.string_values.indices]
    return dict(zip(cities, counts.int64_values.values, strict=True))
