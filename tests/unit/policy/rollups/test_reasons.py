"""Reasons are worked out for those who look, and for so many rollups as they look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

from broker.domain.query import Condition, Grain, Operator
from broker.domain.rollup import Rejection, Rule
from broker.policy.rollups.bits import fewest
from broker.policy.rollups.candidates import Candidates
from broker.policy.rollups.reasons import Reasons, nearest, own, told
from tests.support.rollup_scans import ROLLUP, dataset, day, scan

FAR = Rejection("far", (Rule.KEYS, Rule.ALG))
NEAR = Rejection("near", (Rule.COST,))


def never() -> Iterable[Rejection]:
    raise AssertionError("nobody looks at all of them")


def test_the_nearest_misses_are_found_without_the_others() -> None:
    names = ("city", "kind", "tenant", "seats")
    rollups = [
        replace(ROLLUP, name=f"r{i:03}{'_'.join(kept)}", dimensions=kept, measures=measures, grains=(base,))
        for i, (kept, measures, base) in enumerate(
            (kept, measures, base)
            for count in range(5)
            for kept in combinations(names, count)
            for measures in (("rides",), ("fare",))
            for base in (Grain.FIFTEEN_MINUTES, Grain.DAY)
        )
    ]
    asked = scan(
        *rollups,
        by=("city", "kind"),
        bounds=(day(2), day(3, 7)),
        grain=Grain.HOUR,
        where=Condition("seats", Operator.EQ, (2,)),
    )
    index = Candidates(asked.dataset)
    every = index.check(asked).rejected.all
    assert len({len(each.rules) for each in every}) > 2
    assert Candidates(dataset(ROLLUP)).check(scan(ROLLUP)).rejected.nearest(3) == []
    for most in (1, 7, len(every), 1000):
        found = index.check(asked).rejected.nearest(most)
        assert found == sorted(every, key=lambda each: (len(each.rules), each.rollup))[:most]


def test_a_few_of_many_have_nothing_else_computed() -> None:
    few = Reasons(never, nearest=lambda most: (NEAR, FAR)[:most])
    assert nearest([few], 1) == [NEAR]
    assert nearest([Reasons(lambda: (), few)], 2) == [NEAR, FAR]
    assert own(Reasons(lambda: (NEAR,), few)) == (NEAR,)
    assert told([few], 2) == "near: COST; far: KEYS, ALG"


def test_a_rollup_is_told_once_by_its_nearest_miss() -> None:
    nearer = replace(FAR, rules=(Rule.EDGE,))
    assert nearest([(FAR, NEAR), (nearer,)]) == [nearer, NEAR]
    assert Reasons(lambda: (NEAR,), (FAR,)).all == (FAR, NEAR)
    assert nearest([(replace(FAR, detail="first"),), (replace(FAR, detail="second"),)])[0].detail == "first"


def test_the_nearest_of_ones_own_and_of_others_are_told_in_order() -> None:
    both = Reasons(lambda: (FAR,), (NEAR,))
    assert (both.nearest(1), both.nearest(2)) == ([NEAR], [NEAR, FAR])
    assert nearest([both, (FAR,)], 1) == [NEAR]
    assert nearest([both]) == [NEAR, FAR]


def test_reasons_equal_sequences_of_the_same_rejections_and_nothing_else() -> None:
    assert Reasons(lambda: (FAR,), (NEAR,)) == (FAR, NEAR) != Reasons(lambda: (FAR,))
    assert Reasons(lambda: (FAR,)) != 1


def test_five_are_told_with_what_they_are_about() -> None:
    lacks = replace(FAR, rollup="a", detail="does not store 'seats'")
    many = [lacks, *(replace(NEAR, rollup=name) for name in "bcdef")]
    assert told([many]) == "b: COST; c: COST; d: COST; e: COST; f: COST"
    assert told([many[:2]]) == "b: COST; a: KEYS, ALG (does not store 'seats')"


def test_positions_come_by_how_many_sets_they_are_in() -> None:
    assert list(fewest([0b1])) == [0]
    assert list(fewest([0b0111, 0b0011, 0b0001])) == [2, 1, 0]
