"""What sound rollups and row policies become."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.config.conditions import read_condition
from broker.config.findings import Severity
from broker.config.loader import Configuration, load_text
from broker.config.machine import Machine
from broker.config.rollup_times import multiple
from broker.domain.model import Dimension
from broker.domain.query import AllOf, Condition, Grain, Operator
from broker.domain.rollup import Rollup, Storage, Tracking
from broker.domain.timegrid import add_units, floor_date
from broker.domain.values import DataType

MODEL = """\
datasets:
  sales:
    table: sales
    default_time: at
    joins: {{shops: {{table: shops, on: shops.id = sales.shop}}}}
    dimensions:
      at: timestamp
      local: {{type: timestamp, stored_zone: Asia/Kolkata}}
      day: date
      tenant: string
      shop: {{column: shops.name, type: string}}
      clean: {{sql: "lower( shops.name )", type: string}}
      number: {{sql: "tenant::int", type: int64}}
      price: {{type: decimal, scale: 2}}
    measures:
      sales: count
      revenue: {{kind: sum, column: price, type: decimal, scale: 2}}
      mean: {{kind: avg, column: price, type: decimal, scale: 2}}
      each: {{kind: ratio, numerator: revenue, denominator: sales}}
    row_policies:
      own: {{sql: {policy}, unless: [all_rows]}}
    rollups: {rollups}
"""


def load(rollups: str = "{}", policy: str = "tenant = {tenant}") -> Configuration:
    text = MODEL.format(rollups=rollups, policy=f'"{policy}"')
    return load_text(text, {"DATABASE_URL": "postgresql://db/x"}, folder=Path(), machine=Machine(2))


def only(rollup: str) -> Rollup:
    rollups = load(f"{{r: {rollup}}}").model.datasets["sales"].rollups
    assert list(rollups) == ["r"]
    return rollups["r"]


def test_defaults() -> None:
    assert only("{dimensions: [tenant], measures: [sales]}") == Rollup(
        "r", "sales", "at", ("tenant",), ("sales",)
    )


def test_a_ratio_is_stored_as_what_it_is_made_of() -> None:
    assert only("{measures: [mean, each, sales]}").measures == ("mean", "revenue", "sales")


def test_dates_have_buckets_of_days() -> None:
    rollup = only("{time: day, measures: [sales]}")
    assert (rollup.base, rollup.grains, rollup.zone) == (Grain.DAY, (Grain.DAY, Grain.MONTH), "UTC")


def test_days_begin_in_the_zone_that_the_column_is_written_in() -> None:
    assert only("{time: local, measures: [sales]}").zone == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("grains", "partition"),
    [
        ("[hour]", Grain.MONTH),
        ("[day, week]", Grain.WEEK),
        ("[day, month, year]", Grain.YEAR),
        ("[week]", Grain.WEEK),
    ],
)
def test_a_partition_holds_the_longest_bucket(grains: str, partition: Grain) -> None:
    assert only(f"{{measures: [sales], grains: {grains}}}").partition is partition


def test_a_start_without_an_hour_is_a_date_of_the_zone() -> None:
    rollup = only("{measures: [sales], zone: America/New_York, start: 2013-01-01}")
    assert rollup.start == datetime(2013, 1, 1, 5, tzinfo=UTC)
    rollup = only('{measures: [sales], start: "2013-01-01T00:00:00+02:00"}')
    assert rollup.start == datetime(2012, 12, 31, 22, tzinfo=UTC)


def test_conditions_are_read_in_the_types_of_their_dimensions() -> None:
    rollup = only("{measures: [sales], filter: [\"tenant in (7, 'a ''b')\", price >= 2.50]}")
    tenants = Condition("tenant", Operator.IN, ("7", "a 'b"))
    price = rollup.filter.filters[1] if isinstance(rollup.filter, AllOf) else None
    assert rollup.filter == AllOf((tenants, Condition("price", Operator.GE, (price.values[0],))))  # type: ignore[union-attr] # compared
    assert str(price.values[0]) == "2.50"  # type: ignore[union-attr] # it is a condition, as was just compared
    assert only("{measures: [sales], filter: [tenant = a]}").filter == Condition(
        "tenant", Operator.EQ, ("a",)
    )


@pytest.mark.parametrize(
    ("text", "operator", "values"),
    [
        ("n != -3", Operator.NE, (-3,)),
        ("n <> 3", Operator.NE, (3,)),
        ("n between 3 AND 5", Operator.BETWEEN, (3, 5)),
        ("n NOT IN (1)", Operator.NOT_IN, (1,)),
        ("n is null", Operator.IS_NULL, ()),
        ("n is not null", Operator.IS_NOT_NULL, ()),
        ("s starts with 'a, b'", Operator.STARTS_WITH, ("a, b",)),
        ("s = 'in'", Operator.EQ, ("in",)),
        ("s='is null'", Operator.EQ, ("is null",)),
        ("b = TRUE", Operator.EQ, (True,)),
        ("t < 2013-01-01T00:00:00Z", Operator.LT, (datetime(2013, 1, 1, tzinfo=UTC),)),
    ],
)
def test_a_condition(text: str, operator: Operator, values: tuple[object, ...]) -> None:
    kinds = {"n": DataType.INT64, "s": DataType.STRING, "b": DataType.BOOL, "t": DataType.TIMESTAMP}
    dimensions = {name: Dimension(name, name, kind, ("x",)) for name, kind in kinds.items()}
    assert read_condition(text, dimensions) == Condition(text[0], operator, values)  # type: ignore[arg-type] # scalars


@pytest.mark.parametrize(
    "text",
    [
        *("n = nan", "n = 9223372036854775808", "n = 1.5", "d = NaN", "d = inf"),
        *("b = yes", "b < true", "t = 2013-01-01T00:00:00"),
    ],
)
def test_values_that_do_not_fit_are_refused(text: str) -> None:
    kinds = {"n": DataType.INT64, "d": DataType.DOUBLE, "b": DataType.BOOL, "t": DataType.TIMESTAMP}
    dimensions = {name: Dimension(name, name, kind, ("x",)) for name, kind in kinds.items()}
    assert isinstance(read_condition(text, dimensions), list)


def test_an_external_rollup_names_its_columns() -> None:
    rollup = only(
        "{storage: external, relation: Daily, grains: [day], dimensions: [tenant, shop], measures: [mean, sales],"
        " columns: {at: bucket, shop: shop_name, sales: n, mean.n: k, mean.s: total}}"
    )
    assert (rollup.storage, rollup.tracking, rollup.relation) == (
        Storage.EXTERNAL,
        Tracking.NONE,
        "public.daily",
    )
    assert rollup.columns == {
        "at": "bucket", "tenant": "tenant", "shop": "shop_name", "sales.n": "n", "mean.n": "k", "mean.s": "total"
    }  # fmt: skip


def test_other_ways_to_notice_changes() -> None:
    rollup = only("{measures: [sales], tracking: append_only, lateness: 3d}")
    assert (rollup.tracking, rollup.lateness) == (Tracking.APPEND_ONLY, 3 * 86400)
    rollup = only("{measures: [sales], tracking: change_token, token: SELECT max(at) FROM sales}")
    assert (rollup.tracking, rollup.token) == (Tracking.CHANGE_TOKEN, "SELECT max(at) FROM sales")


def test_answers_keep_their_fingerprint_and_the_model_has_a_new_version() -> None:
    without, one, other = (
        load(f"{{r: {{dimensions: [{d}], measures: [sales]}}}}" if d else "{}").model
        for d in ("", "tenant", "shop")
    )
    assert (
        without.datasets["sales"].version == one.datasets["sales"].version == other.datasets["sales"].version
    )
    assert len({without.version, one.version, other.version}) == 3


@pytest.mark.parametrize(
    ("policy", "terms"),
    [
        ("tenant = {tenant}", (("tenant", "tenant"),)),
        ("(({principal} = Sales.tenant))", (("tenant", "principal"),)),
        (
            "tenant = {tenant} AND (shops.name = {attributes.shop})",
            (("tenant", "tenant"), ("shop", "attributes.shop")),
        ),
        ("LOWER(shops.name) = {attributes.shop}", (("clean", "attributes.shop"),)),
        ("tenant = {tenant} OR shops.name = {attributes.shop}", None),
        ("tenant = {tenant} AND price > 3", None),
        ("NOT tenant = {tenant}", None),
        ("tenant <> {tenant}", None),
        ("upper(tenant) = {tenant}", None),
        ("tenant = lower({tenant})", None),
        ("tenant = 'acme'", None),
        ("tenant::int = {attributes.number}::int", None),
        ("tenant = shops.name", None),
        ("tenant LIKE {tenant}", None),
        ("tenant IS NOT DISTINCT FROM {tenant}", None),
        ("TRUE", None),
    ],
)
def test_row_policies_that_stored_values_can_meet(
    policy: str, terms: tuple[tuple[str, str], ...] | None
) -> None:
    assert load(policy=policy).model.datasets["sales"].row_policies[0].terms == terms


@pytest.mark.parametrize(
    ("policy", "dimensions", "said"),
    [
        ("tenant = {tenant}", "[tenant]", []),
        (
            "tenant = {tenant}",
            "[shop]",
            ["answers only callers with all_rows: the row policy 'own' needs the dim"],
        ),
        (
            "price > 3",
            "[tenant]",
            ["answers only callers with all_rows: the row policy 'own' is no conjunction"],
        ),
    ],
)
def test_a_rollup_that_row_policies_keep_from_answering(
    policy: str, dimensions: str, said: list[str]
) -> None:
    findings = load(f"{{r: {{dimensions: {dimensions}, measures: [sales]}}}}", policy).findings
    assert [finding.severity for finding in findings] == [Severity.WARNING] * len(said)
    assert [finding.path for finding in findings] == ["datasets.sales.rollups.r"] * len(said)
    assert all(part in str(finding) for part, finding in zip(said, findings, strict=True))


def test_a_bucket_is_a_multiple_of_another_where_every_beginning_is_one() -> None:
    """By enumeration of a few years, against the rule."""
    calendar = [grain for grain in Grain if grain.calendar]
    first = datetime(2019, 12, 1, tzinfo=UTC).date()
    days = [add_units(first, Grain.DAY, n) for n in range(1500)]
    begins = {grain: {day for day in days if floor_date(day, grain) == day} for grain in calendar}
    for fine in calendar:
        for coarse in calendar:
            assert multiple(coarse, fine) == (begins[coarse] <= begins[fine]), (coarse, fine)
