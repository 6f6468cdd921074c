"""Having on frames and on plain columns, against SQL's three-valued logic."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation.frames import dtype
from broker.aggregation.having import predicate
from broker.aggregation.measures import value_name
from broker.aggregation.three_valued import compile_filter
from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not, Operator
from broker.domain.values import Column, DataType
from tests.unit.aggregation import reference
from tests.unit.aggregation.questions import condition

COLUMNS: dict[str, tuple[Column, list[Any]]] = {
    "whole_sum": (Column("whole_sum", DataType.INT64), [None, -6, 0, 3, 2**63 - 1, -(2**63)]),
    "real_sum": (Column("real_sum", DataType.DOUBLE), [None, -10.0, 0.0, -0.0, 2.5, float("nan"), float("inf")]),
    "exact_sum": (
        Column("exact_sum", DataType.DECIMAL, scale=2),
        [None, *map(Decimal, ["-3.00", "-0.01", "0.00", "1.50", "2.99", "9" * 36 + ".99"])],
    ),
    "name_max": (Column("name_max", DataType.STRING), [None, "", "a", "é", "zzé", "a.z"]),
    "flag_min": (Column("flag_min", DataType.BOOL), [None, True, False]),
}  # fmt: skip


def truths(node: Filter) -> tuple[list[bool | None], list[bool | None], list[bool | None]]:
    """The truth of every row by the kernels, by their twin and by the reference."""
    height = max(len(values) for _, values in COLUMNS.values())
    data: dict[str, list[Any]] = {
        name: [values[i % len(values)] for i in range(height)] for name, (_, values) in COLUMNS.items()
    }
    schema = {value_name(name): dtype(column.type, column.scale) for name, (column, _) in COLUMNS.items()}
    frame = pl.DataFrame({value_name(name): values for name, values in data.items()}, schema=schema)
    columns = {name: column for name, (column, _) in COLUMNS.items()}
    kernel = frame.with_columns(predicate(node, columns).alias("truth")).get_column("truth").to_list()
    test = compile_filter(node, data)
    twin = [test(i) for i in range(height)]
    plain = [reference.truth(node, {name: values[i] for name, values in data.items()}) for i in range(height)]
    return kernel, twin, plain


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32).map(lambda seed: condition(Random(seed), list(COLUMNS))))
def test_three_ways_to_the_same_truth(node: Filter) -> None:
    kernel, twin, plain = truths(node)
    assert kernel == plain
    assert twin == plain


@pytest.mark.parametrize(
    "operator", [Operator.LT, Operator.LE, Operator.GT, Operator.GE, Operator.EQ, Operator.NE]
)
@pytest.mark.parametrize(
    "value", ["1.50", "1.5", "1.505", "1.4999", "-0.010", "-0.011", "-0.009", "2.99", "2.991", "1e60", "-1e60", "1e-40"]
)  # fmt: skip
def test_decimals_compare_with_any_number_of_digits(operator: Operator, value: str) -> None:
    kernel, twin, plain = truths(Condition("exact_sum", operator, (Decimal(value),)))
    assert kernel == twin == plain


def test_an_empty_all_of_is_true_and_an_empty_any_of_false() -> None:
    for node, truth in ((AllOf(()), True), (AnyOf(()), False), (Not(AnyOf(())), True)):
        kernel, twin, _ = truths(node)
        assert set(kernel) == set(twin) == {truth}


@pytest.mark.parametrize("operator", [Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH])
def test_text_is_matched_literally(operator: Operator) -> None:
    for text in ("", ".", "a.z", "z", "é", "%", "^a"):
        kernel, twin, plain = truths(Condition("name_max", operator, (text,)))
        assert kernel == twin == plain
