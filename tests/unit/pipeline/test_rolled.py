"""Reading through a route: seals that nobody knows yet, comparisons that cannot be made, rollups that are required."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from broker.domain.answer import Table
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.plan import LocalFile, Plan, ScanResult
from broker.domain.pool import PoolName
from broker.domain.query import AbsoluteRange, Query, TimeSelection
from broker.domain.request import CallContext, RequestKind
from broker.domain.rollup import Coverage, Rollup, Rule, Segment, Span
from broker.domain.segment import Comparison
from broker.domain.terms import AnswerPolicy, Consistency, RollupMode
from broker.domain.values import ResultFormat
from broker.pipeline.both import Twice
from broker.pipeline.execute import SnapshotAnswers
from broker.pipeline.rolled import Rolled
from broker.pipeline.routes import Router
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Group, Question
from broker.policy.classify import Classifier, Load, Subject
from broker.policy.resolve import resolve_query
from tests.support.rollup_scans import ALICE, ROLLUP, covered, dataset, day, segment, span
from tests.support.segments import HandClock

OLD = replace(ROLLUP, name="old", dimensions=("kind", "tenant"))
RIDES = dataset(ROLLUP, OLD)
NOW = datetime(2024, 4, 1, tzinfo=UTC)
SOON = Deadline(2000.0)
CLASSIFIED = Classifier().classify(Subject(RequestKind.DASHBOARD, ""), 0.0)
FULL = covered(segment(1, day(1), day(20)))
LOST = Coverage("old", unusable=Rule.DEF, sealed=(span(day(1), day(10)),))


@dataclass
class Database:
    """A snapshot, and the store that gives it; ``said`` is what it says of coverage."""

    said: dict[str, Coverage]
    live: list[Plan] = field(default_factory=list)
    as_of: datetime = NOW
    replica_lag: float | None = None

    @asynccontextmanager
    async def snapshot(self, _: PoolName, __: Deadline) -> AsyncIterator[Database]:
        yield self

    async def coverage(
        self, _: Dataset, rollups: Sequence[Rollup], __: Span
    ) -> tuple[tuple[Coverage, ...], str]:
        return tuple(self.said[rollup.name] for rollup in rollups), ""

    async def read(self, plan: Plan) -> tuple[ScanResult, ...]:
        self.live.append(plan)
        return (ScanResult(()),)

    async def read_scan(self, _: object, __: object) -> ScanResult:
        return ScanResult(())

    async def read_alone(self, *_: object) -> None:
        raise AssertionError("nobody knows whether the tables have all rows")


class Here:
    """A mirror that has every segment; ``forgotten`` are those that a worker could not read."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def local(self, _: Rollup, segment: Segment) -> tuple[LocalFile, ...]:
        return tuple(LocalFile("bad", file.grain, "UTC", segment.span) for file in segment.files)

    async def ensure(self, *_: object) -> None:
        raise AssertionError("everything is here")

    def want(self, *_: object) -> None:
        raise AssertionError("everything is here")

    def forget(self, path: str) -> None:
        self.forgotten.append(path)


class Workers:
    """Cannot read segments; compares whatever it is given."""

    async def table(self, _: PoolName, results: Sequence[ScanResult], *__: object) -> Table:
        if any(result.grouped for result in results):
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "damaged", metadata={"segment": "bad"})
        return Table((), 0, ResultFormat.COLUMNS, b"")

    async def compare(self, *_: object) -> Comparison:
        return Comparison(1, 0, (), "")


def question(mode: RollupMode = RollupMode.AUTO, *, route: bool = True) -> Question:
    time = TimeSelection(range=AbsoluteRange(day(5), day(15)))
    plan = resolve_query(Query("rides", ("rides",), ("city",), time=time), RIDES, ALICE, NOW)
    plan = replace(plan, main=replace(plan.main, policies=()))
    policy = AnswerPolicy(rollup=mode)
    router = Router(_Model({"rides": RIDES}))  # type: ignore[arg-type] # only the datasets are read
    found = router.route(plan, policy, Consistency.BOUNDED, 10.0) if route else None
    return Question("", plan, policy, ResultFormat.COLUMNS, CLASSIFIED, route=found)


class _Model:
    def __init__(self, datasets: object) -> None:
        self.datasets = datasets


@pytest.mark.parametrize("route", [True, False])
async def test_seals_that_are_not_known_yet_are_read_in_the_snapshot(*, route: bool) -> None:
    database: Any = Database({"r": replace(FULL, segments=()), "old": LOST})
    rolled, asked = Rolled(Here()), question(route=route)
    assert await rolled.read_alone(database, PoolName.DASHBOARD, asked, SOON) is None
    with pytest.raises(BrokerError) as caught:
        await rolled.read(database, asked, Seen(database), SOON)
    assert caught.value.reason is ErrorReason.POLICY_UNSATISFIABLE
    assert database.live == []
    database.said["old"] = replace(LOST, sealed=())
    await rolled.read(database, asked, Seen(database), SOON)
    assert len(database.live) == 1


async def test_a_seal_that_the_snapshot_shows_is_known_from_then_on() -> None:
    """What the tables may lack is told as such, though the last look was before it was sealed."""
    own = span(day(1), day(10))
    shown = Coverage("r", unusable=Rule.DEF, sealed=(own,))
    database: Any = Database({"r": shown, "old": replace(LOST, sealed=())})
    rolled = Rolled(Here(), lambda _: {})
    with pytest.raises(BrokerError, match="may be gone") as caught:
        await rolled.read(database, question(), Seen(database), SOON)
    assert caught.value.metadata["rule"] == Rule.SEAL
    assert database.live == []


@pytest.mark.parametrize(("sealed", "compared"), [((), True), ((span(day(1), day(6)),), False)])
async def test_a_rollup_is_not_compared_with_rows_that_may_be_gone(
    sealed: tuple[Span, ...], *, compared: bool
) -> None:
    kept = replace(
        FULL, sealed=sealed, segments=tuple(replace(s, sealed=bool(sealed)) for s in FULL.segments)
    )
    database: Any = Database({"r": kept, "old": replace(LOST, sealed=())})
    aggregator: Any = Workers()
    twice = Twice(database, Rolled(Here()), aggregator, _Free(), count())  # type: ignore[arg-type] # a free seat
    found = await twice(question(), SOON)
    assert (found is not None) is compared


class _Free:
    @asynccontextmanager
    async def permit(self, _: object) -> AsyncIterator[_Free]:
        yield self

    def close(self, _: object) -> None:
        """The work is over."""


@pytest.mark.parametrize("mode", [RollupMode.AUTO, RollupMode.REQUIRE])
async def test_a_segment_that_cannot_be_read_leaves_the_question_to_the_tables_unless_a_rollup_is_required(
    mode: RollupMode,
) -> None:
    database: Any = Database({"r": FULL, "old": replace(LOST, sealed=())})
    mirror = Here()
    workers: Any = Workers()
    answers = SnapshotAnswers(
        database,
        Rolled(mirror),
        workers,
        HandClock(),
        _ignore,
        _ignore,
        lambda _: Load(),
    )
    context = CallContext("", ALICE, SOON, NOW, "dashboard")
    group = Group(context, RequestKind.DASHBOARD, (question(mode),))
    (outcome,) = await answers(group)
    assert mirror.forgotten == ["bad"]
    if mode is RollupMode.REQUIRE:
        assert isinstance(outcome, BrokerError)
        assert database.live == []
    else:
        assert not isinstance(outcome, BrokerError)
        assert len(database.live) == 1


def _ignore(*_: object) -> None:
    """Nobody is told."""
