"""Rollups from the command line: planned, installed, built, changed, refreshed, verified, sealed and dropped."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.cli import Demo, run_broker
from tests.support.pg import Databases, run_sync

ORDERS = """
    CREATE TABLE customers (id bigint PRIMARY KEY, country text);
    CREATE TABLE orders (
        id bigint PRIMARY KEY,
        customer_id bigint NOT NULL REFERENCES customers,
        ordered_at timestamptz NOT NULL,
        amount numeric(12, 2)
    );
    INSERT INTO customers VALUES (1, 'DE'), (2, NULL);
    INSERT INTO orders
    SELECT i, 1 + i % 2, timestamptz '2024-01-01 00:00 UTC' + i * interval '1 hour', i FROM generate_series(0, 2000) i;
    ANALYZE;
"""
MODEL = """
datasets:
  orders:
    table: orders
    default_time: ordered_at
    joins: {customers: {table: customers, on: customers.id = orders.customer_id}}
    dimensions:
      ordered_at: timestamp
      country: {column: customers.country, type: string}
    measures:
      orders: count
      revenue: {kind: sum, column: amount, type: decimal, scale: 2}
      customers: {kind: approx_distinct, column: customer_id, type: int64}
    rollups:
      daily: {dimensions: [country], measures: [orders, revenue, customers], grains: [hour, day, month]}
      kept: {dimensions: [country], measures: [orders], grains: [day], storage: table}
  customers: {table: customers, measures: {customers: count}}
"""


class Shop:
    """A database with orders and a configuration for it."""

    def __init__(self, dsn: str, home: Path) -> None:
        self.dsn, self.home = dsn, home
        (home / "querybroker.yaml").write_text(MODEL)

    def rollup(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs ``broker rollup``."""
        return run_broker("rollup", *arguments, cwd=self.home, env={"DATABASE_URL": self.dsn}, stdin=stdin)

    def sql(self, statement: str) -> object:
        """The value of a statement."""

        async def run() -> object:
            connection = await asyncpg.connect(self.dsn)
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return run_sync(run())

    def status(self) -> dict[str, Any]:
        """What is known of the rollups, by name."""
        listed = json.loads(self.rollup("status", "--direct", "--json").stdout)
        return {rollup["name"].rpartition("/")[2]: rollup for rollup in listed["rollups"]}


@pytest.fixture
def shop(databases: Databases, tmp_path: Path) -> Iterator[Shop]:
    dsn = run_sync(databases.create())
    found = Shop(dsn, tmp_path)

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(ORDERS)
        await connection.close()

    run_sync(fill())
    yield found
    run_sync(databases.drop(dsn))


def test_a_plan_shows_everything_and_changes_nothing(shop: Shop) -> None:
    planned = shop.rollup("plan")
    assert planned.returncode == 0, planned.stderr
    for part in (
        "CREATE TABLE broker.rollup_mark",
        "CREATE TRIGGER",
        "ON public.customers",
        "ENABLE ALWAYS TRIGGER",
    ):
        assert part in planned.stdout
    assert shop.sql("SELECT to_regnamespace('broker') IS NULL")
    assert shop.sql("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 0


def test_nothing_is_installed_without_consent(shop: Shop) -> None:
    for answer in ("n\n", ""):
        declined = shop.rollup("install", stdin=answer)
        assert declined.returncode == 2
        for part in ("CREATE TABLE broker.rollup_mark", "CREATE TRIGGER"):
            assert part in declined.stdout
        assert "Nothing was installed." in declined.stderr
        assert shop.sql("SELECT to_regnamespace('broker') IS NULL")
        assert shop.sql("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 0
        assert "--yes" in declined.stderr or answer


def test_a_rollup_from_its_installation_to_its_end(shop: Shop) -> None:
    installed = shop.rollup("install", stdin="y\n")
    assert installed.returncode == 0, installed.stderr
    assert "orders: installed daily, kept." in installed.stderr
    again = shop.rollup("install", "--yes")
    assert "Everything is as it should be." in again.stdout, again.stdout
    assert [r["state"] for r in shop.status().values()] == ["ROLLUP_STATE_INSTALLED"] * 2

    built = shop.rollup("build", "orders", "--direct")
    assert built.returncode == 0, built.stderr
    assert "orders.daily: 3 partitions, " in built.stderr
    assert "orders.kept: 3 partitions, " in built.stderr
    status = shop.status()
    assert [r["state"] for r in status.values()] == ["ROLLUP_STATE_ACTIVE"] * 2
    assert status["daily"]["row_count"] == "2001"
    shown = shop.rollup("status", "orders.daily", "--direct", "--partitions")
    assert "3 of 3" in shown.stdout
    assert "2024-02-01 00:00:00 UTC" in shown.stdout

    shop.sql("UPDATE orders SET amount = amount + 1 WHERE id IN (5, 800)")
    assert sum(int(p.get("dirty_bucket_count", 0)) for p in shop.status()["daily"]["partitions"]) == 2
    refreshed = shop.rollup("refresh", "orders.daily", "--direct", "-r", "2024-01")
    assert "orders.daily: 1 partition, " in refreshed.stderr, refreshed.stderr
    refreshed = shop.rollup("refresh", "orders.daily", "--direct")
    assert "orders.daily: 1 partition, " in refreshed.stderr, refreshed.stderr
    verified = shop.rollup("verify", "orders", "--direct")
    assert verified.returncode == 0, verified.stderr
    assert "orders.daily: 2,184 buckets compared, all equal to the source." in verified.stdout

    shop.sql(
        """UPDATE broker_rollup."orders.kept" SET "orders.n" = 99 WHERE t = '2024-02-10' AND country = 'DE'"""
    )
    verified = shop.rollup("verify", "orders.kept", "--direct")
    assert verified.returncode == 4, verified.stderr
    assert "orders.kept: 1 of 89 buckets differ from the source:" in verified.stdout
    assert "2024-02-10 00:00:00 UTC to 2024-02-11 00:00:00 UTC" in verified.stdout
    status_ = shop.rollup("status", "--direct")
    assert status_.returncode == 4
    assert "quarantined" in status_.stdout
    assert "broker rollup release orders.kept" in status_.stderr
    rebuilt = shop.rollup("build", "orders.kept", "--direct", "-r", "2024-02")
    assert "orders.kept: 1 partition, " in rebuilt.stderr, rebuilt.stderr
    assert shop.rollup("verify", "orders.kept", "--direct").returncode == 0
    assert shop.rollup("release", "orders.kept", "--direct").returncode == 0
    assert shop.rollup("status", "--direct").returncode == 0
    refused = shop.rollup("release", "orders.kept", "--direct")
    assert refused.returncode == 4
    assert "ROLLUP_STATE" in refused.stderr

    sealed = shop.rollup("seal", "orders.daily", "--before", "2024-02-01", "--yes")
    assert "orders.daily: sealed 1 partition, the newest up to 2024-02-01 00:00 UTC." in sealed.stderr
    states = [p["state"] for p in shop.status()["daily"]["partitions"]]
    assert states == ["PARTITION_STATE_SEALED", "PARTITION_STATE_VALID", "PARTITION_STATE_VALID"]
    shop.sql("UPDATE orders SET amount = 1 WHERE ordered_at >= '2024-02-01Z' AND ordered_at < '2024-02-02Z'")
    refused = shop.rollup("seal", "orders.daily", "--before", "2024-03-01", "--yes")
    assert refused.returncode == 4
    assert (
        "orders.daily: did not seal 1 partition from 2024-02-01 00:00 UTC on. Keep its rows" in refused.stderr
    )

    assert shop.rollup("drop", "orders.daily", "--direct", stdin="n\n").returncode == 2
    assert shop.rollup("drop", "orders.daily", "--direct", "--yes").returncode == 0
    assert shop.status()["daily"]["state"] == "ROLLUP_STATE_DECLARED"
    assert shop.sql("SELECT count(*) > 0 FROM pg_trigger WHERE NOT tgisinternal"), "the other one needs them"
    assert shop.rollup("drop", "orders", "--direct", "--yes").returncode == 0
    assert shop.sql("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'rollup%'") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("build", "orders.dayly", "--direct"), "declares no rollup orders.dayly; it has daily, kept."),
        (("build", "customers", "--direct"), "declares no rollup customers."),
        (("build", "shops", "--direct"), "has no dataset 'shops'; it has customers, orders."),
        (("build", "--direct"), "NAME"),
        (("build", "a.b.c", "--direct"), "write it as flights.hourly"),
        (
            ("build", "orders", "--direct", "-r", "last 7 days"),
            "the range of a rollup is one of dates or instants",
        ),
        (("seal", "orders", "--before", "soon"), "'soon' is no date such as 2020-01-01"),
    ],
)
def test_what_cannot_be_meant_is_said(shop: Shop, arguments: tuple[str, ...], said: str) -> None:
    result = shop.rollup(*arguments)
    assert result.returncode == 2
    assert said in " ".join(result.stderr.split())


def test_a_broker_builds_and_verifies(demo: Demo) -> None:
    listed = demo.broker("rollup", "status")
    assert listed.returncode == 0, listed.stderr
    assert all(name in listed.stdout for name in ("flights.daily", "flights.hourly", "flights.routes"))
    built = demo.broker("rollup", "build", "flights.routes", "-r", "2013-03")
    assert built.returncode == 0, built.stderr
    assert "succeeded" in built.stderr
    submitted = demo.broker("rollup", "refresh", "flights.hourly", "--no-wait")
    name = submitted.stderr.strip().rpartition(" ")[2]
    assert demo.broker("watch", name).returncode == 0
    verified = demo.broker("rollup", "verify", "flights.routes", "-r", "2013-03")
    assert verified.returncode == 0, verified.stderr
    assert "flights.routes: 31 buckets compared, all equal to the source." in verified.stdout
    unknown = demo.broker("rollup", "build", "flights.dialy")
    assert unknown.returncode == 4
    assert "The broker has no rollup flights.dialy; it has flights.daily, " in unknown.stderr
    nothing = demo.broker("rollup", "release", "flights.routes")
    assert nothing.returncode == 4
    assert "ROLLUP_STATE" in nothing.stderr
