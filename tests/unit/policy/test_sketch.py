"""Quantiles of a stream: close, in order, forgetting, and honest about what is known only from one side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.policy.sketch import MAX_BINS, MEMORY, Sketch

VALUES = st.lists(st.floats(1e-5, 1e5), min_size=1, max_size=40)
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)


def sketched(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


def test_nothing_has_no_quantiles() -> None:
    assert Sketch().quantile(0.5) == 0.0


def test_equal_values_are_every_quantile() -> None:
    sketch = sketched([0.25] * 7)
    assert [sketch.quantile(share) for share in SHARES] == [0.25] * 5


def test_quantiles_are_close() -> None:
    sketch = Sketch(memory=1e9)
    for i in range(1, 1001):
        sketch.add(i / 100)
    for share in SHARES:
        assert sketch.quantile(share) == pytest.approx(10 * share, rel=0.05)


def test_old_values_are_forgotten() -> None:
    sketch = sketched([100.0] * 50 + [1.0] * 200)
    assert sketch.quantile(0.9) == pytest.approx(1.0, rel=0.05)
    assert sketch.total <= MEMORY


def test_no_number_of_bins_is_exceeded_and_no_weight_is_lost() -> None:
    sketch = Sketch(memory=1e9)
    for i in range(500):
        sketch.add(1.1**i)
    assert len(sketch.bins) == MAX_BINS
    assert sum(sketch.bins.values()) == pytest.approx(500, rel=1e-6)


@given(VALUES)
def test_quantiles_are_in_order_and_within_what_was_seen(values: list[float]) -> None:
    sketch = sketched(values)
    found = [sketch.quantile(share) for share in SHARES]
    assert found == sorted(found)
    assert min(values) * 0.95 <= found[0]
    assert found[-1] <= max(values) * 1.05


@given(VALUES, st.floats(1e-5, 1e5))
def test_a_lower_bound_never_lowers_a_quantile(values: list[float], bound: float) -> None:
    before, after = sketched(values), sketched(values)
    after.add_above(bound)
    for share in SHARES:
        assert after.quantile(share) >= before.quantile(share) * (1 - 1e-9)


@given(VALUES, st.floats(1e-5, 1e5))
def test_an_upper_bound_never_raises_a_quantile(values: list[float], bound: float) -> None:
    before, after = sketched(values), sketched(values)
    after.add_below(bound)
    for share in SHARES:
        assert after.quantile(share) <= before.quantile(share) * (1 + 1e-9)


@given(VALUES, st.floats(1e-5, 1e5), st.floats(1, 100))
def test_a_longer_run_never_lowers_a_quantile(values: list[float], last: float, factor: float) -> None:
    shorter, longer = sketched([*values, last]), sketched([*values, last * factor])
    for share in SHARES:
        assert longer.quantile(share) >= shorter.quantile(share) * (1 - 1e-9)


@given(VALUES, VALUES)
def test_merged_sketches_lie_between(one: list[float], two: list[float]) -> None:
    first, second, both = sketched(one), sketched(two), sketched(one)
    both.merge(second)
    assert both.total == pytest.approx(min(MEMORY, first.total + second.total))
    for share in SHARES:
        ends = sorted([first.quantile(share), second.quantile(share)])
        assert ends[0] * 0.9 <= both.quantile(share) <= ends[1] * 1.1
