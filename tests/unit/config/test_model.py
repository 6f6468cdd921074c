"""What a sound configuration becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.findings import Severity
from broker.config.loader import Configuration, load_text
from broker.config.machine import Machine, this_machine
from broker.domain.model import Dataset, Dimension, Join, JoinKind, Measure, MeasureKind, RowPolicy
from broker.domain.principal import Criticality, Principal
from broker.domain.values import DataType

ORDERS = """\
datasets:
  order:
    table: sales."Order"
    primary_key: {id: int64, line: string}
    default_time: placed
    max_staleness: 5m
    grants: [sales]
    joins:
      customer: {table: Customer, on: customer.id = customer_id}
      region: {table: sales.region, parent: customer, on: region.id = customer.region_id, kind: one_to_one}
    dimensions:
      placed: timestamp
      day: {sql: "placed::date", type: date, time: false}
      local: {column: Local Time, type: timestamp, stored_zone: Europe/Berlin}
      zoned: {sql: placed AT TIME ZONE 'UTC', type: timestamp}
      region: {column: region.name, type: string}
      price: {type: decimal, scale: 2, title: Price, description: What it cost.}
    measures:
      orders: count
      revenue: {kind: sum, sql: price * quantity, type: decimal, scale: 2, unit: EUR, filter: region.name <> 'test'}
      spread: {kind: stddev, column: price}
      p90: {kind: approx_percentile, column: price, type: decimal, scale: 2, percentile: 0.9}
      newest: {kind: last, column: customer.name, type: string}
      mean: {kind: ratio, numerator: revenue, denominator: orders}
    row_policies:
      own: {sql: "customer.tenant = {tenant} OR region.name = {attributes.region}", unless: [all_rows]}
"""


def load(text: str, processors: int = 4) -> Configuration:
    return load_text(
        text,
        {"DATABASE_URL": "postgresql://db/x"},
        source="broker.yaml",
        folder=Path("/etc/broker"),
        machine=Machine(processors),
    )


@pytest.fixture(scope="module")
def orders() -> Dataset:
    return load(ORDERS).model.datasets["order"]


def test_columns_are_qualified_and_reserved_words_quoted(orders: Dataset) -> None:
    assert orders.table == 'sales."Order"'
    assert orders.dimensions["placed"] == Dimension(
        "placed", '"order".placed', DataType.TIMESTAMP, ("order",), time=True
    )
    assert orders.dimensions["day"].sql == '"order".placed::date'
    assert not orders.dimensions["day"].time
    assert orders.dimensions["local"].sql == '"order"."Local Time"'
    assert orders.dimensions["local"].stored_zone == "Europe/Berlin"
    assert orders.dimensions["zoned"].sql == "(\"order\".placed AT TIME ZONE 'UTC')"
    assert orders.dimensions["region"].tables == ("region",)
    assert orders.dimensions["price"] == Dimension(
        "price", '"order".price', DataType.DECIMAL, ("order",), scale=2, title="Price", description="What it cost."
    )  # fmt: skip


def test_joins_know_their_parents(orders: Dataset) -> None:
    assert orders.joins == {
        "customer": Join("customer", "public.customer", 'customer.id = "order".customer_id', "order"),
        "region": Join(
            "region", "sales.region", "region.id = customer.region_id", "customer", JoinKind.ONE_TO_ONE
        ),
    }


def test_measures_know_the_tables_that_they_need(orders: Dataset) -> None:
    assert orders.measures["orders"] == Measure("orders", MeasureKind.COUNT)
    assert orders.measures["revenue"] == Measure(
        "revenue",
        MeasureKind.SUM,
        '"order".price * "order".quantity',
        DataType.DECIMAL,
        2,
        "region.name <> 'test'",
        tables=("order", "region"),
        unit="EUR",
    )
    assert orders.measures["spread"].type is DataType.DOUBLE
    assert orders.measures["p90"].percentile == 0.9
    assert orders.measures["newest"].tables == ("customer", "order")
    assert orders.measures["mean"].numerator == "revenue"
    assert orders.measures["mean"].tables == ()


def test_a_dataset_keeps_the_rest(orders: Dataset) -> None:
    assert orders.primary_key == ("id", "line")
    assert orders.primary_key_types == (DataType.INT64, DataType.STRING)
    assert orders.max_staleness == 300
    assert orders.grants == ("sales",)
    policy = "customer.tenant = {tenant} OR region.name = {attributes.region}"
    assert orders.row_policies == (RowPolicy("own", policy, ("customer", "region"), ("all_rows",)),)


def test_versions_change_with_the_definition_and_with_nothing_else() -> None:
    first, again = load(ORDERS).model, load("# another comment\n" + ORDERS).model
    changed = load(ORDERS.replace("price * quantity", "price * amount")).model
    assert first.version == again.version
    assert first.datasets["order"].version == again.datasets["order"].version
    assert len({first.version, changed.version}) == 2
    assert first.datasets["order"].version != changed.datasets["order"].version


ACCESS = (
    ORDERS
    + """\
tenants:
  acme: {criticality: critical, attributes: {region: north, plan: gold}}
auth:
  anonymous: {enabled: true, tenant: acme, grants: [sales]}
  api_keys:
    web:
      hashes: ["sha256:{one}", "sha256:{two}"]
      tenant: acme
      grants: [sales, all_rows, sql]
      criticality: critical_plus
      attributes: {plan: silver}
""".replace("{one}", "01" * 32).replace("{two}", "02" * 32)
)


def test_callers_have_what_their_tenant_has() -> None:
    auth = load(ACCESS).settings.auth
    region = {"region": "north", "plan": "gold"}
    assert auth.anonymous == Principal(
        "anonymous", "acme", frozenset({"sales"}), Criticality.CRITICAL, region
    )
    (key,) = auth.api_keys
    assert key.hashes == (b"\x01" * 32, b"\x02" * 32)
    assert key.principal == Principal(
        "web",
        "acme",
        frozenset({"sales", "all_rows", "sql"}),
        Criticality.CRITICAL,
        {"region": "north", "plan": "silver"},
    )


def test_anonymous_callers_are_let_in_until_there_is_a_key() -> None:
    assert load(ORDERS).settings.auth.anonymous == Principal("anonymous", "default", frozenset({"*"}))
    assert load(ACCESS.replace("enabled: true, ", "")).settings.auth.anonymous is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("server: {host: 0.0.0.0}", "callers from other machines are refused"),
        ("auth: {anonymous: {enabled: false}}", "nobody is let in"),
        ("auth: {anonymous: {grants: [sale]}}", "nothing asks for the grant 'sale'; did you mean 'sales'?"),
        (
            "pools: {admin: {connections: 9}}",
            "is more than the 3 that are used at once; the rest stays unused",
        ),
        ("pools: {job: {connections: 2}}", "5 jobs run at once in a worker, on 2 connections; some wait"),
        ("jobs: {slots: 9}", "9 jobs run at once in a worker, on 5 connections; some wait"),
    ],
)
def test_what_may_go_wrong_is_a_warning(more: str, said: str) -> None:
    warnings = [f for f in load(f"{ORDERS}{more}\n").findings if f.severity is Severity.WARNING]
    assert [said in warning.message for warning in warnings] == [True]
    assert warnings[0].line > ORDERS.count("\n") or not warnings[0].line


def test_unencrypted_traffic_is_a_hint() -> None:
    key = "auth: {api_keys: {web: {hashes: ['sha256:" + "0" * 64 + "']}}}\n"
    (hint,) = load(ORDERS + key + "server: {host: '::'}\n").findings
    assert hint.severity is Severity.HINT
    assert "not encrypted" in hint.message
    assert load(ORDERS + key + "server: {host: '::1'}\n").findings == ()


def test_paths_are_relative_to_the_file() -> None:
    settings = load(ORDERS + "server: {tls: {certificate: tls.crt, key: /run/tls.key}}\n").settings
    assert settings.jobs.result_dir == Path("/etc/broker/querybroker-results")
    assert settings.server.tls is not None
    assert settings.server.tls.certificate == Path("/etc/broker/tls.crt")
    assert settings.server.tls.key == Path("/run/tls.key")
    assert settings.server.tls.client_ca is None


def test_what_is_unset_is_decided() -> None:
    local, open_ = load(ORDERS).settings, load(ORDERS + "server: {host: 0.0.0.0}\n").settings
    assert (local.server.drain_notice, open_.server.drain_notice) == (0, 5)
    assert local.jobs.dsn == "postgresql://db/x"
    assert load(ORDERS + "jobs: {dsn: postgresql://jobs/x}\n").settings.jobs.dsn == "postgresql://jobs/x"
    assert local.server.deadlines.of("Dashboard").default == 10
    assert local.server.deadlines.of("querybroker.v1.CatalogService/GetDataset").cap == 60
    assert local.server.deadlines.of("WatchState") == local.server.deadlines.of("WatchJob")


def test_ages_of_answers_are_those_of_the_dataset_and_change_nothing_else() -> None:
    plain, aged = (
        load(ORDERS),
        load(ORDERS + "    cache: {soft_age: 1m, hard_age: 1h}\ncache: {hard_age: 2h}\n"),
    )
    dataset, changed = plain.model.datasets["order"], aged.model.datasets["order"]
    assert (dataset.soft_age, dataset.hard_age) == (None, None)
    assert (changed.soft_age, changed.hard_age) == (60, 3_600)
    assert changed.version == dataset.version
    assert plain.settings.cache.prefix == "querybroker"
    assert load(ORDERS + "fleet: {name: blue}\n").settings.cache.prefix == "blue"
    assert aged.settings.cache.hard_age == 7_200
    assert not load(ORDERS + "cache: {memory: 0}\n").settings.cache.enabled
    assert load(ORDERS + "cache: {memory: 0, shared: 'redis://cache/0'}\n").settings.cache.enabled


@pytest.mark.parametrize(
    ("quota", "most"), [("max 100000\n", 10**6), ("150000 100000\n", 2), ("5000 100000\n", 1), ("", 10**6)]
)
def test_a_container_has_no_more_processors_than_it_was_given(tmp_path: Path, quota: str, most: int) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota, encoding="ascii")
    free = this_machine(tmp_path / "none").processors
    assert this_machine(file).processors == min(free, most)
