"""Comparing answers: what differs is found, what only the order of additions changed is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from broker.aggregation.compare import compare
from broker.domain.plan import Finish, Rows, ScanResult
from broker.domain.query import Query
from broker.domain.segment import Comparison
from tests.unit.aggregation.facts import Fact, facts, plan
from tests.unit.aggregation.questions import MERGEABLE
from tests.unit.aggregation.source import results


def world() -> tuple[Finish, list[Fact]]:
    return plan(Query("facts", tuple(MERGEABLE), ("name",))).finish, facts(Random(11))


def read(rows: list[Fact], parts: tuple[int, ...] = (0,)) -> tuple[ScanResult, ...]:
    return results(plan(Query("facts", tuple(MERGEABLE), ("name",))), rows, parts, csv=False)


def changed(result: ScanResult, column: str, by: Any) -> ScanResult:
    """The result with every known value of a column changed."""
    (block,) = result.grouped
    assert isinstance(block, Rows)
    at = [c.name for c in block.columns].index(column)
    rows = tuple(
        tuple(by(value) if i == at and value is not None else value for i, value in enumerate(row))
        for row in block.rows
    )
    return replace(result, grouped=(replace(block, rows=rows),))


def test_the_same_facts_in_other_parts_do_not_differ() -> None:
    finish, rows = world()
    names = {fact.name for fact in rows}
    assert len(names) > 3
    for parts in ((0, 1, 2), (3, 0)):
        assert compare(read(rows), read(rows[::-1], parts), finish) == Comparison(len(names), 0)


@pytest.mark.parametrize(
    ("column", "by", "measure"),
    [
        ("rows.n", lambda n: n + 1, "rows"),
        ("whole_sum.s", lambda s: s - 1, "whole_sum"),
        ("exact_avg.s", lambda s: s + type(s)("0.01"), "exact_avg"),
        ("name_max.v", lambda v: v + "x", "name_max"),
        ("real_sum.s", lambda s: s + 1e-6, "real_sum"),
        ("real_sum.s", lambda s: math.inf, "real_sum"),
        ("real_variance.m2", lambda m: m + 1e-6, "real_variance"),
        ("name_first.t", lambda t: t + 1, "name_first"),
    ],
)
def test_a_state_that_differs_is_found(column: str, by: Any, measure: str) -> None:
    finish, rows = world()
    (right,) = read(rows)
    found = compare(read(rows), (changed(right, column, by),), finish)
    assert found.differing > 0
    assert found.columns == (measure,)
    assert "k0" in found.example


@pytest.mark.parametrize("column", ["real_sum.s", "real_variance.mean", "real_variance.m2"])
def test_what_rounding_may_change_is_not_a_difference(column: str) -> None:
    finish, rows = world()
    (right,) = read(rows)
    assert compare(read(rows), (changed(right, column, lambda s: s * (1 + 1e-11)),), finish).differing == 0


def test_large_numbers_that_cancel_are_not_a_difference() -> None:
    finish, rows = world()
    (left,) = read(rows)
    big = [
        changed(left, "real_sum.s", lambda s: s * 1e9),
        changed(left, "real_sum.s", lambda s: s * 1e9 + 1e-4),
    ]
    assert compare((big[0],), (big[1],), finish).differing == 0


def test_a_group_that_one_side_lacks_is_found() -> None:
    finish, rows = world()
    fewer = [fact for fact in rows if fact.name != "a"]
    for left, right in ((rows, fewer), (fewer, rows)):
        found = compare(read(left), read(right), finish)
        assert (found.rows, found.differing) == (len({fact.name for fact in rows}), 1)


def test_values_that_a_sketch_missed_are_found() -> None:
    finish, rows = world()
    (left,) = read(rows)
    emptied: Mapping[str, tuple[Rows | Any, ...]] = {
        name: blocks if name != "real_median" else () for name, blocks in left.values.items()
    }
    found = compare((left,), (replace(left, values=emptied),), finish)
    assert found.columns == ("real_median",)


def test_one_row_without_keys_is_compared_too() -> None:
    resolved = plan(Query("facts", ("rows", "real_sum")))
    rows = facts(Random(11))
    (left,), (right,) = (results(resolved, some, [0], csv=False) for some in (rows, rows[1:]))
    assert compare((left,), (left,), resolved.finish) == Comparison(1, 0)
    assert compare((left,), (right,), resolved.finish).columns[0] == "rows"
