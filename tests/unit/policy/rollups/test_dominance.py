"""Which rollups another one makes superfluous, and which only seem to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.query import Grain
from broker.domain.rollup import Segment, SegmentFile, Span
from broker.policy.rollups.dominance import Entry, Weight, not_outdone, undominated
from broker.policy.rollups.intervals import Held, Runs
from broker.policy.rollups.stored import Places, Stored
from tests.support.rollup_scans import ROLLUP, day

SPANS = tuple(Span(i * 10, i * 10 + 10) for i in range(4))
PLACES = Places(SPANS)
RUNS: Runs = ((SPANS[1], 1), (SPANS[2], 2))
"""Of the four segments the two in the middle are asked for."""


def weight(*, row: float = 1.0, fixed: float = 1.0, late: float = 1.0) -> Weight:
    return Weight(((Grain.FIFTEEN_MINUTES, Grain.DAY), "UTC"), row, fixed, late)


WEIGHT = weight()


def held(
    name: str,
    base: tuple[int, ...] = (10, 10, 10, 10),
    days: tuple[int, ...] = (2, 2, 2, 2),
    places: Places = PLACES,
    runs: Runs = RUNS,
) -> Held:
    segments = tuple(
        Segment(i, span, 1, day(31), rows, 0, files=(SegmentFile(Grain.DAY, coarse, 0, ""),))
        for i, (span, rows, coarse) in enumerate(zip(SPANS, base, days, strict=True))
    )
    return Held(replace(ROLLUP, name=name), Stored(segments, places), runs)


def kept(one: Held, other: Held, mine: Weight = WEIGHT, its: Weight = WEIGHT) -> list[str]:
    found = not_outdone([one, other], lambda each: mine if each is one else its)
    return sorted(each.rollup.name for each in found)


@pytest.mark.parametrize("more", [{"late": 2.0}, {"fixed": 2.0}, {"row": 2.0}, {}])
def test_of_two_that_hold_the_same_the_dearer_one_goes_and_of_equal_ones_the_second(
    more: dict[str, float],
) -> None:
    assert kept(held("a"), held("b"), its=weight(**more)) == ["a"]


@pytest.mark.parametrize(
    ("base", "days"),
    [((0, 10, 12, 0), (2, 2, 2, 2)), ((0, 11, 10, 0), (2, 2, 2, 2)), ((0, 11, 10, 0), (9, 2, 3, 9))],
)
def test_only_rows_of_what_is_asked_for_count(base: tuple[int, ...], days: tuple[int, ...]) -> None:
    assert kept(held("a", base, days), held("b", (100, 10, 10, 1000), (100, 2, 2, 100))) == ["b"]


@pytest.mark.parametrize(
    ("less", "more"),
    [("late", "fixed"), ("late", "row"), ("fixed", "row"), ("fixed", "late"), ("row", "late")],
)
def test_what_is_cheaper_in_one_way_and_dearer_in_another_stays(less: str, more: str) -> None:
    other = weight(**{less: 0.5, more: 2.0})
    assert kept(held("a"), held("b"), its=other) == ["a", "b"]


@pytest.mark.parametrize(
    "other",
    [
        held("b", (10, 9, 12, 10)),
        held("b", (10, 12, 9, 10)),
        held("b", (10, 9, 9, 10), (2, 2, 3, 2)),
        held("b", (10, 9, 9, 10), (2, 3, 2, 2)),
        held("b", (10, 9, 9, 10), places=Places(SPANS)),
        held("b", (10, 9, 9, 10), runs=RUNS[:1]),
    ],
)
def test_what_has_more_rows_somewhere_or_holds_something_else_outdoes_nothing(other: Held) -> None:
    assert kept(held("a"), other) == ["a", "b"]


def test_what_is_read_by_other_grains_is_not_compared() -> None:
    assert kept(held("a"), held("b"), its=replace(WEIGHT, shape=((Grain.HOUR,), "UTC"), row=2.0)) == [
        "a",
        "b",
    ]


def test_by_intervals_what_is_nowhere_cheaper_goes_unless_it_may_begin_elsewhere() -> None:
    cheap = Entry(5, [1, 1], [True, False, True], held("b"))
    assert undominated([replace(cheap, stored=[1, 2], held=held("a")), cheap]) == [cheap]
    assert undominated([cheap, replace(cheap, held=held("c"))]) == [cheap]
    for other in (
        replace(cheap, stored=[1, 2], opens=[True, True, True], held=held("c")),
        replace(cheap, stored=[0, 9], held=held("c")),
        replace(cheap, stored=[1, 2], enter=4, held=held("c")),
    ):
        assert undominated([other, cheap]) == [cheap, other]
