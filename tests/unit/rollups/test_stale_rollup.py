"""Stale rollups: local files answer without the database, and say as of when, and what they lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.aggregation import segment_write, tasks
from broker.domain.answer import (
    Answer,
    AnswerKind,
    DegradationReason,
    Exactness,
    Guarantee,
    Interval,
    Rung,
    Verdict,
)
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.measures import order_keys, states
from broker.domain.plan import BUCKET, Finish, Leaf, Rows, ScanResult, key_name, state_name
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Grain, OrderKey, Query, TimeSelection
from broker.domain.request import CallContext, RequestKind
from broker.domain.rollup import Coverage, Rule, Segment, Span, instant, micros
from broker.domain.segment import SegmentBuild
from broker.domain.terms import AnswerPolicy, EdgeMode, PartialMode, RollupMode
from broker.domain.timegrid import build
from broker.domain.values import Column, DataType, ResultFormat
from broker.pipeline.looks import Look
from broker.pipeline.rolled import Rolled
from broker.pipeline.routes import Router
from broker.pipeline.stage import Group, Question
from broker.pipeline.stale_rollup import StaleRollup
from broker.policy.classify import Classifier, Subject
from broker.policy.resolve import resolve_query
from broker.rollups.mirror import Mirror
from broker.rollups.recall import EVERY, Recall
from querybroker.v1 import answer_pb2
from tests.support.rollup_scans import OWN_TENANT, ROLLUP, dataset, day, span
from tests.support.segments import FakeSegments, HandClock
from tests.unit.rollups.conftest import Opened
from tests.unit.rollups.test_mirror import damage_file

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


@pytest.fixture
async def world(opened: Opened, store: FakeSegments, clock: HandClock) -> World:
    return world_of(await opened(store), clock)


@pytest.fixture
def old(store: FakeSegments, world: World) -> Segment:
    return segment(store, 1, FIRST, FACTS, world.ago(600))


@pytest.fixture
def new(store: FakeSegments, world: World) -> Segment:
    return segment(store, 2, SECOND, FACTS, world.ago(60))


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


async def test_it_answers_what_was_true_at_the_last_look_and_says_so(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new)
    answer = await world.ask(asked())
    assert rows(answer) == truth(day(1), day(20))
    status = answer.status
    assert (status.kind, status.exactness) == (AnswerKind.ROLLUP_STALE, Exactness.EXACT)
    assert (status.as_of, status.staleness) == (world.ago(10), 10.0)
    assert (status.guarantee, status.guarantee_bound) == (Guarantee.BOUNDED_STALENESS, 10.0)
    assert (status.reasons, status.missing_intervals) == ((), ())
    assert [(part.source_name, part.interval) for part in status.parts] == [
        ("by_city", Interval(day(1), day(20)))
    ]


async def test_what_had_changed_by_then_is_as_old_as_its_segment(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new, dirty=(Span(SECOND.lo, SECOND.lo + QUARTER),))
    status = (await world.ask(asked())).status
    assert (status.as_of, status.staleness) == (new.as_of, 60.0)
    assert status.reasons == (DegradationReason.ROLLUP_DIRTY,)
    assert (await world.ask(asked(end=day(10)))).status.as_of == world.ago(10)
    assert rows(await world.ask(asked(), max_staleness=60.0)) == truth(day(1), day(20))
    step = await world.ask(asked(), max_staleness=59.0)
    assert (step.rung, step.verdict, step.codes) == (Rung.ROLLUP_STALE, Verdict.REFUSED, ("STALE",))


async def test_edges_are_moved_or_left_out_only_for_those_who_accept_it(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new)
    start, end = day(2, 10, 7), day(12, 3, 20)
    step = await world.ask(asked(start, end))
    assert (step.verdict, step.codes) == (Verdict.NOT_APPLICABLE, ("COVER",))
    moved = await world.ask(asked(start, end), edge=EdgeMode.SNAP)
    assert rows(moved) == truth(day(2, 10), day(12, 3, 30))
    assert moved.status.exactness is Exactness.SNAPPED
    assert moved.status.effective_range == Interval(day(2, 10), day(12, 3, 30))
    less = await world.ask(asked(start, end), partial=PartialMode.ALLOW)
    assert rows(less) == truth(day(2, 10, 15), day(12, 3, 15))
    assert less.status.exactness is Exactness.PARTIAL
    assert less.status.missing_intervals == (Interval(start, day(2, 10, 15)), Interval(day(12, 3, 15), end))
    assert DegradationReason.ROLLUP_NOT_BUILT in less.status.reasons


async def test_a_partition_that_is_not_here_is_missing(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old], soon())
    world.learn(old, new)
    assert (await world.ask(asked())).verdict is Verdict.NOT_APPLICABLE
    less = await world.ask(asked(), partial=PartialMode.ALLOW)
    assert rows(less) == truth(day(1), day(10))
    assert less.status.missing_intervals == (Interval(day(10), day(20)),)
    assert rows(await world.ask(asked(end=day(9)))) == truth(day(1), day(9))


async def test_the_version_before_answers_while_the_next_one_is_not_here(
    world: World, store: FakeSegments, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new, age=30.0)
    changed = {key: count + 1 for key, count in FACTS.items()}
    later = segment(store, 3, SECOND, changed, world.ago(5), version=2)
    world.learn(old, later, age=1.0)
    answer = await world.ask(asked())
    assert rows(answer) == truth(day(1), day(20))
    assert (answer.status.as_of, answer.status.reasons) == (new.as_of, (DegradationReason.ROLLUP_DIRTY,))
    await world.mirror.ensure(BY_CITY, [later], soon())
    answer = await world.ask(asked(day(10)))
    assert rows(answer) == truth(day(10), day(20), changed)
    assert answer.status.as_of == world.ago(1)


@pytest.mark.parametrize("rule", [Rule.QUARANTINE, Rule.DEF])
async def test_what_may_not_be_used_never_answers(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline], rule: Rule
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new)
    world.learn(unusable=rule)
    step = await world.ask(asked(), partial=PartialMode.ALLOW)
    assert (step.verdict, step.codes) == (Verdict.NOT_APPLICABLE, (rule.value,))


async def test_row_policies_filters_order_and_limit_hold_as_ever(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new)
    assert rows(await world.ask(asked(order=(OrderKey("rides", descending=True),)), ALICE)) == truth(
        day(1), day(20), tenant="acme"
    )
    paris = await world.ask(asked(order=(OrderKey("city", descending=True),), limit=1), ALICE)
    assert rows(paris) == {"Paris": truth(day(1), day(20), tenant="acme")["Paris"]}
    other = replace(asked(), dimensions=("seats",))
    step = await world.ask(other)
    assert (step.verdict, step.codes) == (Verdict.NOT_APPLICABLE, ("KEYS",))


def test_who_forbids_it_is_not_answered(world: World) -> None:
    assert world.rung.allowed(AnswerPolicy())
    assert not world.rung.allowed(AnswerPolicy(rollup=RollupMode.FORBID))
    assert not world.rung.allowed(AnswerPolicy(accepted_kinds=frozenset({AnswerKind.LIVE})))


async def test_nothing_is_known_before_the_first_look(world: World) -> None:
    assert (await world.ask(asked())).codes == ("COVER",)


async def test_the_next_process_answers_from_the_files_that_are_here(
    world: World, opened: Opened, old: Segment, new: Segment, soon: Callable[[], Deadline], tmp_path: Path
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    kept = replace(old, sealed=True)
    world.learn(kept, new, dirty=(Span(SECOND.lo, SECOND.lo + QUARTER),), sealed=(FIRST,))
    recall = Recall(tmp_path / "mirror", "db", [RIDES], world.clock)
    await recall.write(world.router.looks)
    away = FakeSegments()
    away.failing = {1: BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")}
    next_one = world_of(await opened(away), world.clock)
    looks = await Recall(tmp_path / "mirror", "db", [RIDES], world.clock).read()
    assert looks == world.router.looks
    next_one.router.recall("rides", looks["rides"])
    assert next_one.router.seals(RIDES) is None, "more may have been sealed since"
    for rollup, each in looks["rides"].segments(RIDES):
        assert await next_one.mirror.adopt(rollup, each)
    answer = await next_one.ask(asked())
    assert rows(answer) == truth(day(1), day(20))
    assert answer.status.as_of == new.as_of
    assert not away.fetched


async def test_files_that_are_not_here_or_broken_are_not_adopted(
    world: World, opened: Opened, old: Segment, new: Segment, soon: Callable[[], Deadline], tmp_path: Path
) -> None:
    await world.mirror.ensure(BY_CITY, [old], soon())
    files = world.mirror.local(BY_CITY, old)
    assert files is not None
    other = await opened(FakeSegments())
    assert not await other.adopt(BY_CITY, new)
    damage_file(files[0], "changed")
    assert not await other.adopt(BY_CITY, old)


def broken(directory: Path, data: bytes) -> None:
    (path,) = directory.glob("*.looks")
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [b"", b"\n", b"x" * 100, b"{}"])
async def test_an_index_that_is_broken_tells_nothing(
    world: World, old: Segment, tmp_path: Path, damage: bytes
) -> None:
    world.learn(old)
    recall = Recall(tmp_path, "db", [RIDES], world.clock)
    await recall.write(world.router.looks)
    broken(tmp_path, damage)
    assert await recall.read() == {}


async def test_the_index_is_written_for_other_segments_at_once_and_for_its_age_now_and_then(
    world: World, old: Segment, new: Segment, tmp_path: Path
) -> None:
    recall = Recall(tmp_path, "db", [RIDES], world.clock)
    world.learn(old, age=9.0)
    await recall.write(world.router.looks)
    before = await recall.read()
    world.learn(old, dirty=(FIRST,), age=8.0)
    await recall.write(world.router.looks)
    assert await recall.read() == before
    world.clock.seconds += EVERY
    await recall.write(world.router.looks)
    assert await recall.read() == world.router.looks != before
    world.learn(old, unusable=Rule.QUARANTINE, age=7.0)
    await recall.write(world.router.looks)
    assert (await recall.read())["rides"].coverage["by_city"].unusable is Rule.QUARANTINE


async def test_the_index_of_another_definition_is_not_taken_over(
    world: World, old: Segment, tmp_path: Path
) -> None:
    world.learn(old)
    await Recall(tmp_path, "db", [RIDES], world.clock).write(world.router.looks)
    other = replace(BY_CITY, grains=(Grain.HOUR,))
    assert await Recall(tmp_path, "db", [dataset(other)], world.clock).read() == {}


def test_versions_are_remembered_until_the_rollup_may_not_be_used(store: FakeSegments) -> None:
    first, second, third = (replace(store.segment(n), span=FIRST) for n in (1, 2, 3))
    look = Look(day(1), {"r": Coverage("r", (first,))})
    for each in (second, third):
        look = look.then(day(2), [Coverage("r", (each,))])
    assert look.before == {"r": {FIRST: (second, first)}}
    assert look.then(day(3), [Coverage("r", (third,))]).before == look.before
    assert look.then(day(3), [Coverage("r")]).before == {}
    assert look.then(day(3), [Coverage("r", unusable=Rule.QUARANTINE)]).before == {}
