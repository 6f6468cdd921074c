"""Calculations by hand: tiny tables whose answers can be checked by eye."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.aggregation import calculations, kernels, rolling
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.query import (
    AbsoluteRange,
    Calculations,
    CompareTo,
    Grain,
    OrderKey,
    Query,
    RollingWindow,
    ShareOfTotal,
    TimeSelection,
    TopN,
)
from tests.unit.aggregation.facts import Fact, plan
from tests.unit.aggregation.source import results

DAY = datetime(2024, 6, 3, tzinfo=UTC)


def fact(day: float, name: str | None, whole: int | None) -> Fact:
    return Fact(DAY + timedelta(days=day), int(day * 100), name, None, whole, None, None)


def days(first: int, last: int, *, gap_fill: bool = False, grain: Grain | None = Grain.DAY) -> TimeSelection:
    bounds = AbsoluteRange(DAY + timedelta(days=first), DAY + timedelta(days=last))
    return TimeSelection("at", grain, "UTC", bounds, gap_fill)


def rows(query: Query, facts: list[Fact]) -> list[tuple[Any, ...]]:
    """The rows of the answer, days as numbers from the first one on."""
    resolved = plan(query)
    found = kernels.answer(
        results(resolved, facts, [0], csv=False), replace(resolved.finish, pushed_down=False)
    )
    start = round(DAY.timestamp()) * 1_000_000
    if query.time is None or query.time.grain is None:
        return found.rows()
    return [((bucket - start) / 86_400_000_000, *rest) for bucket, *rest in found.rows()]


FACTS = [
    fact(0, "a", 1),
    fact(0.1, "b", 5),
    fact(1, "a", 2),
    fact(3, "a", 4),
    fact(3.1, None, 7),
    fact(-1, "b", 100),
]


def test_gaps_are_filled_for_the_keys_that_are_there() -> None:
    query = Query("facts", ("rows", "whole_sum", "whole_avg"), ("name",), days(0, 2, gap_fill=True))
    assert rows(query, FACTS) == [
        (0, "a", 1, 1, 1.0),
        (0, "b", 1, 5, 5.0),
        (1, "a", 1, 2, 2.0),
        (1, "b", 0, None, None),
    ]


def test_gaps_are_filled_without_keys_even_when_there_is_nothing() -> None:
    query = Query("facts", ("rows", "whole_min"), (), days(10, 12, gap_fill=True))
    assert rows(query, FACTS) == [(10, 0, None), (11, 0, None)]
    assert rows(replace(query, dimensions=("name",)), FACTS) == []


def test_nothing_is_one_row_without_keys_and_none_with() -> None:
    query = Query(
        "facts", ("rows", "whole_sum", "name_distinct", "flag_exactly"), time=days(10, 12, grain=None)
    )
    assert rows(query, FACTS) == [(0, None, 0, 0)]
    assert rows(replace(query, dimensions=("name",)), FACTS) == []


def test_top_n_merges_the_rest_into_a_row_that_is_not_the_null_key() -> None:
    query = Query(
        "facts", ("whole_sum",), ("name",), days(0, 4, grain=None),
        order=(OrderKey("whole_sum", descending=True),),
        calculations=Calculations(TopN(1, "name", "whole_sum", other=True)),
    )  # fmt: skip
    assert rows(query, FACTS) == [(None, 12, True), ("a", 7, False)], (
        "7 ties with the null key, and a comes before null"
    )
    dropped = replace(query, calculations=Calculations(TopN(1, "name", "whole_sum")))
    assert rows(dropped, FACTS) == [("a", 7)]
    two = replace(query, calculations=Calculations(TopN(2, "name", "whole_sum", other=True)), order=())
    assert rows(two, FACTS) == [("a", 7, False), (None, 7, False), (None, 5, True)]


def test_top_n_ranks_by_the_range_and_not_by_the_lead_of_windows() -> None:
    query = Query(
        "facts", ("whole_sum",), ("name",), days(0, 4),
        calculations=Calculations(TopN(1, "name", "whole_sum"), rolling=(RollingWindow("whole_sum", 2),)),
    )  # fmt: skip
    assert rows(query, FACTS) == [(0, "a", 1, 1), (1, "a", 2, 3), (3, "a", 4, 4)], (
        "b has 105 with the day before"
    )


def test_windows_are_counted_in_buckets_and_not_in_rows() -> None:
    query = Query(
        "facts", ("rows", "whole_avg"), (), days(0, 5, gap_fill=True),
        calculations=Calculations(rolling=(RollingWindow("rows", 3), RollingWindow("whole_avg", 3))),
    )  # fmt: skip
    assert rows(query, FACTS) == [
        (0, 2, 3.0, 3, (1 + 5 + 100) / 3),
        (1, 1, 2.0, 4, (1 + 5 + 2 + 100) / 4),
        (2, 0, None, 3, (1 + 5 + 2) / 3),
        (3, 2, 5.5, 3, (2 + 4 + 7) / 3),
        (4, 0, None, 2, 5.5),
    ]


def test_windows_taken_in_portions_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    query = Query(
        "facts", ("rows",), ("name",), days(0, 5, gap_fill=True),
        calculations=Calculations(rolling=(RollingWindow("rows", 4),)),
    )  # fmt: skip
    whole = rows(query, FACTS)
    monkeypatch.setattr(rolling, "_ROWS_AT_ONCE", 1)
    assert rows(query, FACTS) == whole
    assert len(whole) == 15


def test_a_comparison_finds_the_row_one_shift_earlier() -> None:
    query = Query(
        "facts", ("rows", "whole_sum"), ("name",), days(0, 2),
        calculations=Calculations(compare_to=CompareTo(1, Grain.DAY)),
    )  # fmt: skip
    assert rows(query, FACTS) == [
        (0, "a", 1, 1, 0, 1, None, None, None, None),
        (0, "b", 1, 5, 1, 0, 0.0, 100, -95, -0.95),
        (1, "a", 1, 2, 1, 0, 0.0, 1, 1, 1.0),
    ]


def test_a_comparison_without_grain_or_keys() -> None:
    query = Query(
        "facts", ("whole_sum",), (), days(0, 1, grain=None),
        calculations=Calculations(compare_to=CompareTo(1, Grain.DAY)),
    )  # fmt: skip
    assert rows(query, FACTS) == [(6, 100, -94, -0.94)]
    assert rows(query, []) == [(None, None, None, None)]


def test_an_hour_that_did_not_exist_the_day_before_has_no_previous_count() -> None:
    berlin = datetime(2024, 4, 1, tzinfo=UTC) - timedelta(hours=2)  # midnight after the clocks went forward
    time = TimeSelection(
        "at", Grain.HOUR, "Europe/Berlin", AbsoluteRange(berlin, berlin + timedelta(hours=4)), True
    )
    query = Query("facts", ("rows",), (), time, calculations=Calculations(compare_to=CompareTo(1, Grain.DAY)))
    resolved = plan(query)
    facts = [
        Fact(berlin - timedelta(hours=hours), hours, None, None, None, None, None) for hours in (-1, 22, 23)
    ]
    found = kernels.answer(results(resolved, facts, [0], csv=False), resolved.finish)
    assert found.get_column("c2").to_list() == [1, 1, None, 0], (
        "0, 1, 2 and 3 o'clock; there was no 2 o'clock"
    )


def test_shares_are_of_the_rows_that_agree() -> None:
    query = Query(
        "facts", ("whole_sum",), ("name",), days(0, 2),
        calculations=Calculations(shares=(ShareOfTotal("whole_sum", ("at",)),)),
    )  # fmt: skip
    assert rows(query, FACTS) == [(0, "a", 1, 1 / 6), (0, "b", 5, 5 / 6), (1, "a", 2, 1.0)]
    nothing = [fact(0, "a", 3), fact(0.1, "b", -3), fact(1, "a", None)]
    assert rows(query, nothing) == [(0, "a", 3, None), (0, "b", -3, None), (1, "a", None, None)]


def test_too_many_filled_rows_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calculations, "MAX_FILLED_ROWS", 7)
    query = Query("facts", ("rows",), ("name",), days(0, 4, gap_fill=True))
    with pytest.raises(BrokerError) as raised:
        rows(query, FACTS)
    assert raised.value.reason is ErrorReason.RESULT_TOO_LARGE
    assert raised.value.metadata == {"value": "12", "limit": "7"}


def test_ties_follow_the_keys_with_nulls_last() -> None:
    query = Query("facts", ("rows",), ("name",), order=(OrderKey("rows", descending=True),), limit=2)
    facts = [fact(0, name, 1) for name in ("b", None, "é", "B")]
    assert rows(query, facts) == [("B", 1), ("b", 1)]
    first = replace(query, order=(OrderKey("name", nulls_first=True),), limit=0)
    assert [name for name, _ in rows(first, facts)] == [None, "B", "b", "é"]
    last = replace(query, order=(OrderKey("name", descending=True),), limit=0)
    assert [name for name, _ in rows(last, facts)] == ["é", "b", "B", None]
