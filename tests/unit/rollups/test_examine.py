"""Which stretches of a rollup are compared with the source, and how those that differ are narrowed down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.plan import Finish, Scan, ScanResult
from broker.domain.query import Grain
from broker.domain.rollup import ALWAYS, Coverage, Rollup, Rule, Segment, Span, micros
from broker.domain.segment import Comparison
from broker.domain.values import DataType
from broker.pipeline.rolled import Reading
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Question
from broker.rollups.examine import MAX_COMPARISONS, Examiner, claims

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = micros(datetime(2024, 1, 1, tzinfo=UTC))
ROLLUP = Rollup("r", "sales", "at", (), ("sales",), (Grain.HOUR, Grain.DAY), partition=Grain.DAY)
SALES = Dataset(
    name="sales",
    table="public.sales",
    dimensions={"at": Dimension("at", "sales.at", DataType.TIMESTAMP, ("sales",), time=True)},
    measures={"sales": Measure("sales", MeasureKind.COUNT)},
    default_time="at",
    rollups={"r": ROLLUP},
)
NEVER = Deadline(float("inf"))


def hours(first: int, last: int) -> Span:
    return Span(START + first * HOUR, START + last * HOUR)


def segment(day: int, *, sealed: bool = False) -> Segment:
    return Segment(
        day, hours(24 * day, 24 * day + 24), 1, datetime(2024, 2, 1, tzinfo=UTC), 24, 1_000, sealed
    )


def covered(*segments: Segment, dirty: Sequence[Span] = (), **more: Any) -> Coverage:
    return Coverage("r", segments, tuple(dirty), **more)


@dataclass
class Source:
    """A store, a snapshot, a reader and an aggregator in one: buckets of ``wrong`` hours differ."""

    coverage_: Coverage
    wrong: frozenset[int] = frozenset()
    most: int = 10_000
    compared: list[Span] = field(default_factory=list)

    @asynccontextmanager
    async def snapshot(self, pool: object, deadline: Deadline) -> AsyncIterator[Source]:
        yield self

    async def coverage(
        self, dataset: Dataset, rollups: object, span: Span
    ) -> tuple[tuple[Coverage, ...], str]:
        return (self.coverage_,), "1:1:"

    async def read(self, snapshot: object, question: Question, seen: Seen, deadline: Deadline) -> Reading:
        assert question.route is not None
        found = (await seen.coverage(question.route))["r"]
        assert (found.unusable, found.dirty) == (None, ())
        return Reading((ScanResult(()),), question.plan.finish)

    async def read_scan(self, scan: Scan, finish: Finish) -> ScanResult:
        assert scan.bounds is not None
        self.compared.append(Span(micros(scan.bounds.start), micros(scan.bounds.end)))
        if self.compared[-1].hi - self.compared[-1].lo > self.most * HOUR:
            raise BrokerError(ErrorReason.RESULT_TOO_LARGE, "too large")
        return ScanResult(())

    async def compare(self, *_: object) -> Comparison:
        last = self.compared[-1]
        bad = [hour for hour in self.wrong if last.lo <= START + hour * HOUR < last.hi]
        return Comparison(100, len(bad), ("sales",), f"hour {bad[0]}" if bad else "")

    @property
    def examiner(self) -> Examiner:
        own = cast(Any, self)
        return Examiner(own, own, own)


@pytest.mark.parametrize(
    ("coverage", "span", "expected"),
    [
        (covered(segment(0), segment(1)), ALWAYS, [hours(0, 24), hours(24, 48)]),
        (covered(segment(0, sealed=True), segment(1)), ALWAYS, [hours(24, 48)]),
        (covered(segment(0)), hours(24, 48), []),
        # What has changed is left out in whole buckets, and so is what the range holds of them in part.
        (
            covered(segment(0), dirty=[Span(START + 5 * HOUR + 1, START + 6 * HOUR)]),
            ALWAYS,
            [hours(0, 5), hours(6, 24)],
        ),
        (covered(segment(0), dirty=[hours(0, 2), hours(20, 30)]), ALWAYS, [hours(2, 20)]),
        (covered(segment(0), dirty=[ALWAYS]), ALWAYS, []),
        (covered(segment(0)), Span(START + HOUR // 2, START + 3 * HOUR + 1), [hours(1, 3)]),
    ],
)
def test_what_a_rollup_can_be_held_to(coverage: Coverage, span: Span, expected: list[Span]) -> None:
    assert list(claims(SALES, ROLLUP, coverage, span)) == expected


async def test_equal_stretches_are_compared_once() -> None:
    source = Source(covered(segment(0), segment(1)))
    found = await source.examiner.examine(SALES, ROLLUP, ALWAYS, NEVER)
    assert (found.buckets, found.mismatched, found.mismatches, found.exact) == (48, 0, (), True)
    assert source.compared == [hours(0, 24), hours(24, 48)]


async def test_what_differs_is_narrowed_down_to_its_buckets() -> None:
    source = Source(covered(segment(0), segment(1)), frozenset({3, 4, 23, 24, 40}))
    found = await source.examiner.examine(SALES, ROLLUP, ALWAYS, NEVER)
    assert (found.buckets, found.mismatched) == (48, 5)
    assert found.mismatches == (hours(3, 5), hours(23, 25), hours(40, 41))
    assert found.example == "hour 3"


async def test_comparisons_are_bounded() -> None:
    segments = [segment(day) for day in range(100)]
    source = Source(covered(*segments), frozenset(range(2_400)))
    found = await source.examiner.examine(SALES, ROLLUP, ALWAYS, NEVER)
    assert (found.buckets, found.mismatched) == (2_400, 2_400), "stretches are told as a whole"
    assert found.mismatches == (hours(0, 2_400),)
    assert len(source.compared) < MAX_COMPARISONS + 200


async def test_what_is_too_large_is_compared_in_parts() -> None:
    source = Source(covered(segment(0)), frozenset({9}), most=6)
    found = await source.examiner.examine(SALES, ROLLUP, ALWAYS, NEVER)
    assert (found.buckets, found.mismatched, found.mismatches) == (24, 1, (hours(9, 10),))


async def test_a_bucket_too_large_is_an_error() -> None:
    with pytest.raises(BrokerError) as caught:
        await Source(covered(segment(0)), most=0).examiner.examine(SALES, ROLLUP, ALWAYS, NEVER)
    assert caught.value.reason is ErrorReason.RESULT_TOO_LARGE


async def test_a_quarantined_rollup_is_compared_and_a_foreign_one_is_not() -> None:
    found = await Source(covered(segment(0), unusable=Rule.QUARANTINE)).examiner.examine(
        SALES, ROLLUP, ALWAYS, NEVER
    )
    assert found.buckets == 24
    changed = covered(segment(0), unusable=Rule.DEF, message="It is installed for another definition.")
    with pytest.raises(BrokerError, match="another definition") as caught:
        await Source(changed).examiner.examine(SALES, ROLLUP, ALWAYS, NEVER)
    assert caught.value.reason is ErrorReason.ROLLUP_STATE


async def test_a_rollup_that_may_miss_rows_is_not_held_to_be_exact() -> None:
    found = await Source(covered(segment(0), lateness=3600.0)).examiner.examine(SALES, ROLLUP, ALWAYS, NEVER)
    assert not found.exact
