"""Random covers against every other choice, and what must not change them."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from broker.domain.plan import Scan
from broker.domain.rollup import Cover, Rejection
from broker.policy.rollups.candidates import Candidates
from broker.policy.rollups.cheapest import LIVE, NEVER, Problem, _limited, cheapest, live_spans
from broker.policy.rollups.cover import cover
from broker.policy.rollups.stored import Memory
from tests.support.rollup_cases import Case
from tests.support.rollup_covers import disagreement, random_case
from tests.support.rollup_scans import dataset, scan
from tests.unit.policy.rollups.test_rules import CASES


def found(case: Case, *, backwards: bool = False, memory: Memory | None = None) -> Cover:
    rollups = case.rollups[::-1] if backwards else case.rollups
    coverage = {name: case.coverage[name] for name in (each.name for each in rollups)}
    return cover(
        case.scan, rollups, coverage, case.costs,
        lateness_allowed=case.lateness_allowed, require=case.require, live=case.live, memory=memory,
    )  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_no_choice_of_sources_is_cheaper(part: int) -> None:
    memory = Memory()
    for seed in range(part * 1_000_000, part * 1_000_000 + 100):
        case = random_case(Random(seed))
        assert disagreement(case, found(case, memory=memory)) is None, seed


def test_the_order_of_definition_changes_nothing() -> None:
    for seed in range(200):
        case = random_case(Random(seed))
        assert found(case) == found(case, backwards=True)


def test_the_oracle_sees_a_cover_that_is_too_dear_or_too_short() -> None:
    seen = set()
    for seed in range(200):
        case = random_case(Random(seed))
        right = found(case)
        if len(right.pieces) > 1:
            assert disagreement(case, replace(right, pieces=right.pieces[:1])) is not None
            seen.add("short")
        if right.rollups:
            live = found(replace(case, require=False, rollups=()))
            if live.pieces and disagreement(case, live) is not None:
                seen.add("dear")
    assert seen == {"short", "dear"}


def test_a_rollup_more_never_makes_a_cover_dearer() -> None:
    for seed in range(200):
        case = replace(random_case(Random(seed)), require=False, lateness_allowed=None)
        # Of one grain, for every cut in a day that another rollup may make takes from the coarser one in the estimate.
        case = replace(case, rollups=tuple(replace(each, grains=each.grains[:1]) for each in case.rollups))
        all_of_them, fewer = found(case), found(replace(case, rollups=case.rollups[:-1]))
        sealed = any(s.sealed for each in case.coverage.values() for s in each.segments)
        if fewer.pieces and not sealed:
            assert all_of_them.cost <= fewer.cost * (1 + 1e-9) + 1e-7


def test_the_limit_of_live_spans_is_kept_at_the_least_cost() -> None:
    """Five intervals that the rollup lacks, and four that it holds: two of these are given up, the cheapest ones."""
    holds = (NEVER, 1, NEVER, 1, NEVER, 1, NEVER, 1, NEVER)
    live = (1, 90, 1, 20, 1, 30, 1, 80, 1)
    problem = Problem((holds,), live, ((True,) * 10,), (5,), 1, 5, 1)
    for most, given_up in ((5, ()), (4, (3,)), (3, (3, 5)), (1, (1, 3, 5, 7))):
        best = cheapest(problem, most)
        assert best is not None
        assert live_spans(best[1]) == most
        assert tuple(i for i in (1, 3, 5, 7) if best[1][i] == LIVE) == given_up


def test_with_one_rollup_the_limit_is_kept_as_with_several() -> None:
    """A second rollup that holds nothing leads to the same covers by the longer way."""
    for seed in range(300):
        rng = Random(seed)
        size = rng.randint(3, 14)
        live = [NEVER if rng.random() < 0.05 else rng.randint(1, 50) for _ in range(size)]
        holds = [NEVER if rng.random() < 0.5 else rng.randint(1, 60) for _ in range(size)]
        opens, changes = [True] * (size + 1), (rng.randint(0, 3), rng.randint(0, 9), rng.randint(0, 3))
        alone = Problem((holds,), live, (opens,), (rng.randint(3, 9),), *changes)
        other = [NEVER] * size
        both = replace(alone, stored=(holds, other), opens=(opens, opens), enter=(*alone.enter, 1))
        for most in (1, 2, 3):
            one, two = cheapest(alone, most), cheapest(both, most)
            assert (one and one[0]) == (two and two[0])
            assert one is None or live_spans(one[1]) <= most


def test_a_limit_that_cannot_be_broken_changes_nothing() -> None:
    """The loop for any number of live spans and the one that counts them are two, and choose alike."""
    for seed in range(300):
        rng = Random(seed)
        size, rollups = rng.randint(1, 9), rng.randint(0, 3)
        live = [NEVER if rng.random() < 0.1 else rng.randint(1, 50) for _ in range(size)]
        stored = [
            [NEVER if rng.random() < 0.3 else rng.randint(1, 60) for _ in range(size)] for _ in range(rollups)
        ]
        opens = [[rng.random() < 0.7 for _ in range(size + 1)] for _ in range(rollups)]
        enter = [rng.randint(3, 9) for _ in range(rollups)]
        again = rng.randint(0, 3)
        problem = Problem(stored, live, opens, enter, again, again + rng.randint(0, 6), again)
        free, counted = cheapest(problem, None), _limited(problem, size)
        assert (free and free[0]) == (counted and counted[0])


def test_a_rollup_is_neither_begun_nor_left_inside_one_of_its_buckets() -> None:
    """Two intervals are one bucket of the cheap rollup; the other one holds the first of them, the tables are dear."""
    live, fine, coarse = (100, 100, 100), (1, NEVER, 1), (5, 5, NEVER)
    opens = ((True,) * 4, (True, False, True, True))
    best = cheapest(Problem((fine, coarse), live, opens, (1, 1), 1, 1, 1), None)
    assert best is not None
    assert best[1] == [1, 1, 0]
    cut = cheapest(Problem((fine, (NEVER, 5, NEVER)), live, opens, (1, 1), 1, 1, 1), None)
    assert cut is not None
    assert cut[1] == [0, LIVE, 0]


def test_what_no_source_holds_has_no_cover() -> None:
    assert cheapest(Problem(((NEVER, 1),), (NEVER, 1), ((True,) * 3,), (1,), 1, 1, 1), None) is None
    assert cheapest(Problem((), (1, NEVER), (), (), 1, 1, 1), None) is None
    assert cheapest(Problem((), (1, 2), (), (), 1, 7, 1), None) == (10, [LIVE, LIVE])


def _plain(asked: Scan, names: list[str]) -> tuple[set[str], set[Rejection]]:
    rollups = [replace(CASES[name][1], name=name) for name in names]
    own = dataset(*rollups)
    checked = Candidates(own).check(replace(asked, dataset=own))
    return {rollup.name for rollup in checked.accepted}, set(checked.rejected)


def test_rollups_are_judged_one_by_one_however_many_there_are() -> None:
    names = list(CASES)
    for asked in (scan(), *(CASES[name][0] for name in names[::3])):
        accepted, rejected = _plain(asked, names)
        assert (accepted, rejected) == _plain(asked, names[::-1])
        assert len(accepted) + len(rejected) == len(names)
        for name in names[::4]:
            alone, reasons = _plain(asked, [name])
            assert alone == accepted & {name}
            assert reasons == {each for each in rejected if each.rollup == name}
