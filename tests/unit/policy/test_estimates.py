"""Intervals from blocks: how often they hold, what they are made of, and when there are none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.sample import BlockSums, Extent, Figure, GroupSums, NoEstimate, Sums, exponents
from broker.policy.estimate_design import (
    DEFAULT_LIMIT,
    LEAST,
    MOST,
    PILOT,
    Design,
    Pace,
    design,
    pilot_rate,
    told,
    worth_it,
)
from broker.policy.estimate_interval import interval, spread, student

Doubles = npt.NDArray[np.float64]
Population = Callable[[np.random.Generator, int], tuple[Doubles, Doubles]]
ROWS = 100
TOTAL = Figure("total", "above")
RATIO = Figure("ratio", "above", "below")
FREE = Pace(0.0, 0.0, math.inf)
KEY = ()


def uniform(rng: np.random.Generator, blocks: int) -> tuple[Doubles, Doubles]:
    count = rng.binomial(ROWS, 0.1, blocks).astype(float)
    return count * 3, count


def clustered(rng: np.random.Generator, blocks: int) -> tuple[Doubles, Doubles]:
    count = np.zeros(blocks)
    count[blocks // 3 : blocks // 3 + blocks // 10] = ROWS
    return count * rng.normal(5, 1, blocks), count


def skewed(sigma: float) -> Population:
    def make(rng: np.random.Generator, blocks: int) -> tuple[Doubles, Doubles]:
        count = rng.binomial(ROWS, 0.1, blocks)
        values = rng.lognormal(0, sigma, count.sum())
        owner = np.repeat(np.arange(blocks), count)
        return np.bincount(owner, values, blocks).astype(float), count.astype(float)

    return make


def sums(figure: Figure, above: Doubles, below: Doubles) -> Sums:
    powers = {(a, b): float((above**a * below**b).sum()) for a, b in exponents(figure)}
    seen = [int(np.count_nonzero(each)) for each in ((above, below) if figure.below else (above,))]
    return Sums(powers, *seen)


def sample(
    rng: np.random.Generator, figure: Figure, population: tuple[Doubles, Doubles], rate: float
) -> BlockSums:
    above, below = population
    drawn = np.nonzero(rng.random(len(above)) < rate)[0]
    group = GroupSums(KEY, int(np.count_nonzero(below[drawn])), (sums(figure, above[drawn], below[drawn]),))
    return BlockSums(len(above), len(drawn), (group,))


@pytest.mark.parametrize(
    ("make", "figure", "blocks"),
    [
        (uniform, TOTAL, 4_000),
        (clustered, TOTAL, 12_000),
        (clustered, RATIO, 12_000),
        (skewed(1.0), TOTAL, 12_000),
        (skewed(1.5), RATIO, 4_000),
        (skewed(2.2), TOTAL, 12_000),
    ],
)
def test_intervals_hold_as_often_as_they_say(make: Population, figure: Figure, blocks: int) -> None:
    rng = np.random.default_rng(20_240_607)
    trials, held, said = 500, 0, 0
    populations = [make(rng, blocks) for _ in range(10)]
    for trial in range(trials):
        population = populations[trial % 10]
        above, below = population
        truth = above.sum() / below.sum() if figure.below else above.sum()
        extent = Extent(blocks, 1e9)
        rate = pilot_rate(extent)
        assert not isinstance(rate, NoEstimate)
        pilot = sample(rng, figure, population, rate)
        drawing = design((figure,), pilot, extent, DEFAULT_LIMIT, FREE)
        if isinstance(drawing, NoEstimate):
            continue
        found = told((figure,), sample(rng, figure, population, drawing.rate), drawing, DEFAULT_LIMIT)
        for (each,) in found.groups.values():
            said += 1
            held += each.lower <= truth <= each.upper
            assert each.relative <= DEFAULT_LIMIT
    assert said > 0.7 * trials
    # Of 500 trials with intervals that hold in 95 % of cases, fewer than 91.5 or more than 98.5 % come in 1 of 2,000.
    assert 0.915 <= held / said <= 0.985


def test_rows_that_resemble_their_neighbours_are_no_witnesses_of_their_own() -> None:
    rng = np.random.default_rng(7)
    population = clustered(rng, 4_000)
    truth, trials, held = population[1].sum(), 300, 0
    for _ in range(trials):
        drawn = np.nonzero(rng.random(4_000) < 0.05)[0]
        rows, share = len(drawn) * ROWS, population[1][drawn].sum() / (len(drawn) * ROWS)
        error = 1.96 * math.sqrt(share * (1 - share) / rows * 0.95) * 4_000 * ROWS
        held += abs(share * 4_000 * ROWS - truth) <= error
    assert held / trials < 0.5


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1e6, 1.96)],
)
def test_quantiles_of_student(degrees: float, quantile: float) -> None:
    assert student(degrees) == pytest.approx(quantile, abs=2e-3)


@given(
    st.lists(st.integers(1, 100).map(float), min_size=3, max_size=40),
    st.floats(1e-3, 1e3),
    st.integers(0, 30),
    st.integers(100, 10_000),
)
def test_an_interval_holds_its_estimate_and_scales_with_the_unit(
    totals: list[float], unit: float, empty: int, more: int
) -> None:
    drawn = len(totals) + empty
    values = np.array(totals)
    found = interval(TOTAL, sums(TOTAL, values, values), drawn, drawn + more, careful=False)
    scaled = interval(TOTAL, sums(TOTAL, values * unit, values), drawn, drawn + more, careful=False)
    assert found is not None
    assert scaled is not None
    assert found.lower <= found.value <= found.upper
    assert found.value == pytest.approx(values.sum() / drawn * (drawn + more))
    assert scaled.relative == pytest.approx(found.relative, rel=1e-3, abs=1e-9)


def test_all_blocks_leave_no_doubt() -> None:
    values = np.array([3.0, 9.0, 4.0, 1.0] * 20)
    found = interval(TOTAL, sums(TOTAL, values, values), 80, 80, careful=False)
    assert found is not None
    assert found.lower == pytest.approx(found.upper) == pytest.approx(values.sum())


def test_blocks_that_are_all_alike_leave_what_nothing_like_was_drawn_of() -> None:
    values = np.full(300, 50.0)
    found = interval(TOTAL, sums(TOTAL, values, values), 300, 10_000, careful=False)
    assert found is not None
    assert 0.005 < found.relative < 0.02  # three in three hundred may be anything


def test_a_count_is_not_below_what_was_counted() -> None:
    counts = Figure("count", "above", counts=True)
    values = np.array([500.0, 1.0, 1.0])
    found = interval(counts, sums(counts, values, values), 5, 6, careful=True)
    assert found is not None
    assert found.lower >= 502


def test_a_ratio_of_like_totals_is_narrower_than_either() -> None:
    rng = np.random.default_rng(3)
    above, below = clustered(rng, 4_000)
    drawn = np.arange(0, 4_000, 5)
    ratio = spread(RATIO, sums(RATIO, above[drawn], below[drawn]), len(drawn))
    total = spread(TOTAL, sums(TOTAL, above[drawn], below[drawn]), len(drawn))
    assert ratio is not None
    assert total is not None
    assert ratio.scale < total.scale / 3
    assert ratio.value == pytest.approx(5, rel=0.1)


def pilot_of(*groups: GroupSums, drawn: int = PILOT) -> BlockSums:
    return BlockSums(100_000, drawn, groups)


def group(key: int, blocks: int, value: float = 10.0, spread: float = 3.0) -> GroupSums:
    totals = np.random.default_rng(key).normal(value, spread, blocks)
    return GroupSums((key,), blocks, (sums(TOTAL, totals, totals),))


EXTENT = Extent(100_000, 1e9)


def test_nothing_seen_is_no_zero() -> None:
    nothing = GroupSums(KEY, 0, (Sums({(a, 0): 0.0 for a in range(1, 5)}, 0),))
    assert design((TOTAL,), pilot_of(nothing), EXTENT, 0.25, FREE) is NoEstimate.TOO_THIN
    assert design((TOTAL,), pilot_of(), EXTENT, 0.25, FREE) is NoEstimate.TOO_THIN


def test_thin_groups_are_left_out_and_counted() -> None:
    pilot = pilot_of(group(1, 200), group(2, 190), group(3, 1))
    found = design((TOTAL,), pilot, EXTENT, 0.25, FREE)
    assert isinstance(found, Design)
    assert set(found.careful) == {(1,), (2,)}
    shown = told(
        (TOTAL,),
        BlockSums(100_000, 400, (group(1, 400), group(2, 380), group(3, 2), group(4, 1))),
        found,
        0.25,
    )
    assert set(shown.groups) == {(1,), (2,)}
    assert shown.suppressed == 2


def test_a_finer_limit_draws_more_and_a_total_around_zero_has_no_width() -> None:
    wide, fine = (design((TOTAL,), pilot_of(group(1, 200)), EXTENT, limit, FREE) for limit in (0.25, 0.01))
    assert isinstance(wide, Design)
    assert isinstance(fine, Design)
    assert fine.rate > wide.rate >= LEAST / EXTENT.blocks
    around = pilot_of(group(1, 200, value=0.001, spread=3.0))
    small = Extent(1_000, 1e9)
    assert design((TOTAL,), around, small, 0.25, FREE) is NoEstimate.TOO_WIDE


def test_what_an_exact_answer_costs_bounds_the_sample() -> None:
    pilot = pilot_of(group(1, 200, spread=10.0))
    fine = 0.02
    assert isinstance(design((TOTAL,), pilot, EXTENT, fine, FREE), Design)
    assert (
        design((TOTAL,), pilot, Extent(100_000, 1_000), fine, Pace(100, 0, math.inf))
        is NoEstimate.EXACT_CHEAPER
    )
    slow = Pace(0.0, pilot=0.2, seconds=math.inf, live=0.3)
    assert design((TOTAL,), pilot, EXTENT, fine, slow) is NoEstimate.EXACT_CHEAPER
    kept = Extent(100_000, 0, kept=20_000)
    assert isinstance(design((TOTAL,), pilot, kept, fine, slow), Design)  # nothing is read for it
    assert design((TOTAL,), pilot, Extent(100_000, 0, kept=300), fine, slow) is NoEstimate.TOO_WIDE
    late = Pace(0.0, pilot=0.2, seconds=0.1)
    assert design((TOTAL,), pilot, EXTENT, fine, late) is NoEstimate.TIME
    assert pilot_rate(Extent(PILOT, 10)) is NoEstimate.EXACT_CHEAPER
    assert not worth_it(Extent(10_000, 100), 60)
    assert worth_it(Extent(10_000, 100), 40)
    whole = design((TOTAL,), pilot, EXTENT, 0.0001, FREE)
    assert whole is NoEstimate.TOO_WIDE or (isinstance(whole, Design) and whole.rate <= MOST)


@pytest.mark.parametrize("spread_of", [0.0, 1e-6, 1e-4])
def test_blocks_that_are_nearly_alike_are_no_proof_of_the_others(spread_of: float) -> None:
    values = 1e6 * (1 + spread_of * np.random.default_rng(1).normal(size=300))
    found = interval(TOTAL, sums(TOTAL, values, values), 300, 10_000, careful=False)
    assert found is not None
    assert 0.005 < found.relative < 0.02
    assert found.lower < found.value < found.upper
