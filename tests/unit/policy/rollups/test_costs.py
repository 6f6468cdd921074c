"""What sources cost, followed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.query import AnyOf, Filter, Operator
from broker.domain.rollup import ALWAYS, FAR_FUTURE, FAR_PAST, Span, Storage
from broker.policy.rollups.costs import Costs
from tests.support.rollup_scans import ROLLUP, is_, scan

COSTS = Costs(
    10.0, live=1.0, segments=20.0, segment_row=2.0, table=30.0, table_row=8.0, sketch_row=3.0, equality=0.25
)
TABLE, EXTERNAL = replace(ROLLUP, storage=Storage.TABLE), replace(ROLLUP, storage=Storage.EXTERNAL)
CITY, KIND, TENANT = (is_(member, Operator.EQ, "x") for member in ("city", "kind", "tenant"))


def test_of_a_live_read_a_part_is_spent_once_and_the_rest_by_time() -> None:
    assert (COSTS.live_fixed, COSTS.live_rate(Span(2, 5))) == (1.0, 3.0)
    assert (replace(COSTS, live=20.0).live_fixed, replace(COSTS, live=20.0).live_rate(Span(2, 5))) == (10, 0)
    assert COSTS.live_rate(Span(5, 5)) == COSTS.live_rate(Span(5, 6)) == 9.0
    assert Costs.predicted(-1.0) == Costs.predicted(0.0)


def test_a_rollup_is_begun_by_its_storage() -> None:
    assert [COSTS.fixed(each) for each in (ROLLUP, TABLE, EXTERNAL)] == [20.0, 30.0, 30.0]


@pytest.mark.parametrize(("measures", "row"), [(("rides", "fare"), 2.0), (("riders", "rides"), 5.0)])
def test_rows_of_segments_cost_more_with_sketches(measures: tuple[str, ...], row: float) -> None:
    assert COSTS.rows(scan(measures=measures), ())(ROLLUP) == row
    assert COSTS.rows(scan(measures=measures), (CITY,))(ROLLUP) == row
    twice = replace(scan(measures=measures), leaves=scan(measures=measures).leaves * 2)
    assert COSTS.rows(twice, ())(ROLLUP) == 2.0 + 2 * (row - 2.0)


@pytest.mark.parametrize(
    ("parts", "row"),
    [
        ((), 8.0),
        ((CITY,), 2.0),
        ((CITY, KIND), 0.5),
        ((CITY, TENANT), 2.0),
        ((KIND, TENANT), 8.0),
        ((is_("city", Operator.IN, "x", "y"),), 4.0),
        ((is_("city", Operator.IN, *"vwxyz"),), 8.0),
        ((is_("city", Operator.NE, "x"),), 8.0),
        ((AnyOf((CITY, KIND)),), 8.0),
    ],
)
def test_equalities_with_the_first_dimensions_leave_a_share_of_a_table(
    parts: tuple[Filter, ...], row: float
) -> None:
    assert COSTS.rows(scan(), parts)(TABLE) == row
    assert COSTS.rows(scan(), parts)(EXTERNAL) == 8.0


@pytest.mark.parametrize(
    ("extent", "span", "found"),
    [
        (None, Span(10, 20), Span(10, 20)),
        (None, ALWAYS, Span(5, 15)),
        (None, Span(FAR_PAST, 12), Span(5, 12)),
        (None, Span(12, FAR_FUTURE), Span(12, 15)),
        (Span(8, 30), Span(10, 20), Span(10, 20)),
        (Span(12, 14), Span(10, 20), Span(12, 14)),
        (Span(12, 14), ALWAYS, Span(12, 14)),
    ],
)
def test_rows_are_within_the_extent_or_else_where_segments_are(
    extent: Span | None, span: Span, found: Span
) -> None:
    assert replace(COSTS, extent=extent).extent_of(span, Span(5, 15)) == found
