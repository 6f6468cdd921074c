"""Ranges of a time dimension of dates are known to a rollup's own filter, as those of instants are."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from broker.domain.query import Condition, Grain
from broker.domain.query import Operator as Op
from broker.domain.rollup import Rule
from tests.support.rollup_scans import ROLLUP, day, failed, is_, scan

DAILY = replace(ROLLUP, time="billed", grains=(Grain.DAY,))


@pytest.mark.parametrize(
    ("own", "rules"),
    [
        (is_("billed", Op.GE, date(2024, 3, 5)), set()),
        (is_("billed", Op.GT, date(2024, 3, 4)), set()),
        (is_("billed", Op.GT, date(2024, 3, 5)), {Rule.FILT}),
        (is_("billed", Op.GE, date(2024, 3, 6)), {Rule.FILT}),
        (is_("billed", Op.LT, date(2024, 3, 10)), set()),
        (is_("billed", Op.LE, date(2024, 3, 10)), set()),
        (is_("billed", Op.LT, date(2024, 3, 9)), {Rule.FILT}),
        (is_("billed", Op.IS_NOT_NULL), set()),
    ],
)
def test_a_range_of_dates_implies_conditions_on_the_date(own: Condition, rules: set[Rule]) -> None:
    asked = scan(time="billed", bounds=(day(5), day(10)))
    assert failed(asked, replace(DAILY, filter=own)) == rules


def test_a_range_that_begins_within_a_day_begins_with_the_next_date() -> None:
    """As one does that is compared with the range some hours before."""
    asked = scan(time="billed", bounds=(day(5, 3), day(10, 3)))
    assert failed(asked, replace(DAILY, filter=is_("billed", Op.GE, date(2024, 3, 6)))) == set()
    assert failed(asked, replace(DAILY, filter=is_("billed", Op.LT, date(2024, 3, 10)))) == {Rule.FILT}
    assert failed(asked, replace(DAILY, filter=is_("billed", Op.LT, date(2024, 3, 11)))) == set()
