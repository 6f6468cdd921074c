"""Merging: sums that leave their range, and the numerics of variances."""

from __future__ import annotations

from decimal import Decimal
from math import fsum
from random import Random
from statistics import variance

import polars as pl
import pytest

from broker.aggregation import states
from broker.aggregation.frames import dtype
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.measures import states as states_of
from broker.domain.model import Measure, MeasureKind
from broker.domain.plan import Leaf
from broker.domain.values import DataType

LARGEST, SMALLEST = 2**63 - 1, -(2**63)
WIDEST, CENT = 10**38 - 1, 1
"""Decimals with two digits after the point, as whole cents: Python's own arithmetic rounds them to 28 digits."""
K, T = MeasureKind, DataType


def leaf(kind: MeasureKind, type: DataType = T.INT64, scale: int = 0) -> Leaf:
    measure = Measure("m", kind, "x", type, scale)
    return Leaf(measure, states_of(measure))


def cents(number: int) -> Decimal:
    return Decimal(f"{number}e-2")


def summed(values: list[int], *, exact: bool, grouped: bool) -> object:
    of = leaf(K.SUM, T.DECIMAL, 2) if exact else leaf(K.SUM)
    found = pl.Series(
        list(map(cents, values)) if exact else values, dtype=dtype(of.measure.type, of.measure.scale)
    )
    frame = pl.DataFrame({"k0": ["g"] * len(values), "m.s": found})
    return states.merge(frame, ["k0"] if grouped else [], [of]).get_column("m.s").item()


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(
    ("values", "exact"),
    [
        ([LARGEST, 1], False),
        ([SMALLEST, -1], False),
        ([LARGEST] * 3, False),
        ([2**62, 2**62], False),
        ([2**54] * 512, False),
        ([LARGEST, 2, LARGEST], False),  # wraps back to a small number
        ([WIDEST, CENT], True),
        ([-WIDEST, -CENT], True),
        ([5 * 10**37] * 2, True),
        ([10**36] * 100, True),
        ([WIDEST] * 4, True),
        ([WIDEST] * 40, True),
    ],
)
def test_a_sum_that_leaves_its_range_is_an_error(values: list[int], exact: bool, grouped: bool) -> None:
    with pytest.raises(BrokerError) as raised:
        summed(values, exact=exact, grouped=grouped)
    assert raised.value.reason is ErrorReason.STORE_REJECTED
    assert raised.value.metadata == {"measure": "m"}


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(
    ("values", "exact"),
    [
        ([LARGEST, SMALLEST, 1], False),
        ([LARGEST - 1, 1], False),
        ([SMALLEST + 1, -1], False),
        ([LARGEST, 5, -5], False),
        ([WIDEST - CENT, CENT], True),
        ([WIDEST, -WIDEST, CENT], True),
        ([-WIDEST], True),
    ],
)
def test_a_sum_that_stays_in_its_range_is_exact(values: list[int], exact: bool, grouped: bool) -> None:
    expected = cents(sum(values)) if exact else sum(values)
    assert summed(values, exact=exact, grouped=grouped) == expected


def test_an_average_of_integers_whose_sum_leaves_the_range_is_an_error() -> None:
    frame = pl.DataFrame({"m.n": [1, 1], "m.s": [LARGEST, LARGEST]})
    with pytest.raises(BrokerError):
        states.merge(frame, [], [leaf(K.AVG)])


def test_a_difference_that_leaves_its_range_is_an_error() -> None:
    assert states.minus(pl.Series([LARGEST, None]), pl.Series([LARGEST, 1])).to_list() == [0, None]
    for left, right in ((LARGEST, -1), (SMALLEST, 1)):
        with pytest.raises(BrokerError):
            states.minus(pl.Series("=m", [left]), pl.Series([right]))
    with pytest.raises(BrokerError):
        states.minus(*(pl.Series("=m", [cents(v)], dtype=dtype(T.DECIMAL, 2)) for v in (WIDEST, -WIDEST)))


@pytest.mark.parametrize("keys", [[], ["k"]])
def test_totals_of_decimals_that_leave_their_range_are_an_error(keys: list[str]) -> None:
    values = pl.Series("=m", list(map(cents, [WIDEST, WIDEST, CENT])), dtype=dtype(T.DECIMAL, 2))
    groups = pl.DataFrame({"k": [1, 1, 2]}).select(keys)
    with pytest.raises(BrokerError):
        states.totals(values, groups)


def test_totals_of_integers_are_wide() -> None:
    values = pl.Series("=m", [LARGEST, LARGEST, None])
    assert states.totals(values, pl.DataFrame({"k": [1, 1, 2]})).to_list() == [2 * LARGEST, 2 * LARGEST, 0]


@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("parts", [1, 3, 50])
def test_variances_merge_without_losing_digits(offset: float, parts: int) -> None:
    chance = Random(1)
    numbers = [offset + chance.gauss(0, 1) for _ in range(1_000)]
    rows: list[tuple[int, float | None, float | None]] = []
    for part in range(parts):
        some = numbers[part::parts]
        mean = fsum(some) / len(some)
        rows.append((len(some), mean, fsum((n - mean) ** 2 for n in some)))
    rows += [(0, None, None)]
    frame = pl.DataFrame(rows, schema=["m.n", "m.mean", "m.m2"], orient="row")
    of = leaf(K.VARIANCE, T.DOUBLE)
    merged = states.merge(frame, [], [of])
    found = states.finish(merged, [], [of], []).get_column("=m").item()
    assert found == pytest.approx(variance(numbers), rel=1e-12 if offset == 0.0 else 1e-7)


def test_equal_numbers_have_no_variance_after_a_merge() -> None:
    frame = pl.DataFrame({"m.n": [3, 7], "m.mean": [0.1, 0.1], "m.m2": [0.0, 0.0]})
    assert states.merge(frame, [], [leaf(K.STDDEV, T.DOUBLE)]).get_column("m.m2").item() == 0.0


def test_states_that_do_not_merge_are_not_merged() -> None:
    of = leaf(K.EXACT_DISTINCT)
    one = pl.DataFrame({"k0": ["a", "b"], "m.v": [1, 2]})
    assert states.merge(one, ["k0"], [of]).get_column("m.v").to_list() == [1, 2]
    with pytest.raises(ValueError, match="do not merge"):
        states.merge(pl.concat([one, one]), ["k0"], [of])
