"""A shop: orders have items (which have a product, and returns) and payments, each one to many; a customer is one."""

from __future__ import annotations

import pytest

from broker.domain.model import Dataset, Dimension, Join, JoinKind, Measure, MeasureKind
from broker.domain.values import DataType
from broker.policy.fanout import fan_out_violation, multiplying_joins


def _join(name: str, parent: str, kind: JoinKind) -> Join:
    return Join(name, f"public.{name}", f"{parent}.id = {name}.{parent}_id", parent, kind)


def _dimension(name: str, *tables: str) -> Dimension:
    return Dimension(name, f"{tables[0]}.{name}", DataType.STRING, tables)


def _measure(name: str, kind: MeasureKind, *tables: str) -> Measure:
    return Measure(name, kind, f"{tables[0]}.{name}" if tables else "", tables=tables)


ORDERS = Dataset(
    name="orders",
    table="public.orders",
    joins={
        "customers": _join("customers", "orders", JoinKind.MANY_TO_ONE),
        "receipts": _join("receipts", "orders", JoinKind.ONE_TO_ONE),
        "items": _join("items", "orders", JoinKind.ONE_TO_MANY),
        "products": _join("products", "items", JoinKind.MANY_TO_ONE),
        "returns": _join("returns", "items", JoinKind.ONE_TO_MANY),
        "payments": _join("payments", "orders", JoinKind.ONE_TO_MANY),
    },
    dimensions={
        "status": _dimension("status", "orders"),
        "country": _dimension("country", "customers"),
        "receipt": _dimension("receipt", "receipts"),
        "size": _dimension("size", "items"),
        "product": _dimension("product", "products"),
        "reason": _dimension("reason", "returns"),
        "method": _dimension("method", "payments"),
    },
    measures={
        "orders": _measure("orders", MeasureKind.COUNT),
        "total": _measure("total", MeasureKind.SUM, "orders"),
        "largest": _measure("largest", MeasureKind.MAX, "orders"),
        "buyers": _measure("buyers", MeasureKind.APPROX_DISTINCT, "customers"),
        "quantity": _measure("quantity", MeasureKind.SUM, "items"),
        "value": _measure("value", MeasureKind.SUM, "items", "orders"),
        "weight": _measure("weight", MeasureKind.AVG, "products"),
        "returned": _measure("returned", MeasureKind.COUNT, "returns"),
        "paid": _measure("paid", MeasureKind.SUM, "payments"),
        "basket": Measure("basket", MeasureKind.RATIO, numerator="quantity", denominator="orders"),
        "unit_weight": Measure("unit_weight", MeasureKind.RATIO, numerator="weight", denominator="quantity"),
    },
)


@pytest.mark.parametrize(
    ("dimensions", "measures"),
    [
        ([], ["orders", "total"]),
        (["status", "country", "receipt"], ["orders", "total", "largest", "buyers"]),
        (["size"], ["quantity"]),
        (["status", "country", "size"], ["quantity", "value"]),
        (["product"], ["quantity", "weight", "unit_weight"]),
        (["size", "reason"], ["returned"]),
        (["method"], ["paid", "largest", "buyers"]),
        (["size", "method", "reason"][:1], []),
        (["size", "reason"], []),
        (["product"], ["largest", "buyers"]),
    ],
)
def test_a_question_whose_measures_are_not_repeated_passes(
    dimensions: list[str], measures: list[str]
) -> None:
    assert fan_out_violation(ORDERS, dimensions, measures) is None


@pytest.mark.parametrize(
    ("dimensions", "measures", "said"),
    [
        (["size"], ["orders"], "dimension 'size' needs the one-to-many join 'items'"),
        (["status", "product"], ["total"], "repeats rows under measure 'total'"),
        ([], ["quantity", "orders"], "measure 'quantity' needs the one-to-many join 'items'"),
        ([], ["basket"], "repeats rows under measure 'orders'"),
        (["reason"], ["quantity"], "'returns', which repeats rows under measure 'quantity'"),
        (["country"], ["returned", "value"], "'returns', which repeats rows under measure 'value'"),
        (["method"], ["quantity"], "the one-to-many join 'payments' and measure 'quantity'"),
        (["size", "method"], [], "ask two questions"),
        (["product"], ["paid"], "ask two questions"),
        ([], ["paid", "returned"], "ask two questions"),
        (["size", "method"], ["largest"], "ask two questions"),
    ],
)
def test_a_question_that_repeats_rows_under_a_measure_is_refused(
    dimensions: list[str], measures: list[str], said: str
) -> None:
    assert said in (fan_out_violation(ORDERS, dimensions, measures) or "")


def test_the_refusal_names_measures_that_would_stay_right() -> None:
    refusal = fan_out_violation(ORDERS, ["size"], ["orders"]) or ""
    assert refusal.endswith(
        "stays right beside it: largest, buyers, quantity, value, weight, returned, unit_weight"
    )


def test_joins_that_multiply_are_found_along_the_whole_path() -> None:
    assert multiplying_joins(ORDERS, ["returns"]) == ("items", "returns")
    assert multiplying_joins(ORDERS, ["products", "payments"]) == ("items", "payments")
    assert multiplying_joins(ORDERS, ["orders", "customers", "receipts"]) == ()
