from __future__ import annotations

import asyncpg
import pytest

from broker.adapters.pg_catalog import PgCatalog, open_catalog
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.relations import ForeignKey, FunctionFacts, Relation, RelationKind, SqlType
from broker.domain.values import DataType


async def _relation(dsn: str, name: str) -> Relation:
    async with open_catalog(dsn) as catalog:
        found = (await catalog.catalog()).relation("sales", name)
    assert found is not None
    return found


async def test_tables_and_views_are_listed_without_partitions_and_system_tables(shop_dsn: str) -> None:
    async with open_catalog(shop_dsn) as catalog:
        found = await catalog.catalog()
    assert [(r.schema, r.name, r.kind) for r in found.relations] == [
        ("sales", "Order", RelationKind.TABLE),
        ("sales", "customer", RelationKind.TABLE),
        ("sales", "daily", RelationKind.MATERIALIZED_VIEW),
        ("sales", "paid_orders", RelationKind.VIEW),
        ("sales", "product", RelationKind.TABLE),
        ("sales", "visit", RelationKind.PARTITIONED),
    ]
    assert found.server.superuser
    assert not found.server.replica
    assert found.server.version.startswith("18")
    assert found.server.max_connections > found.server.reserved_connections > 0


async def test_types_are_those_of_the_values(shop_dsn: str) -> None:
    order = await _relation(shop_dsn, "Order")
    assert {column.name: column.sql_type for column in order.columns} == {
        "id": SqlType("uuid", DataType.STRING),
        "customer_id": SqlType("bigint", DataType.INT64),
        "sku": SqlType("text", DataType.STRING),
        "placed_at": SqlType("timestamp with time zone", DataType.TIMESTAMP),
        "shipped_at": SqlType("timestamp without time zone", DataType.TIMESTAMP, zoned=False),
        "channel": SqlType("sales.channel", DataType.STRING),
        "quantity": SqlType("integer", DataType.INT64),
        "total": SqlType("sales.price", DataType.DECIMAL, scale=2),
        "discount": SqlType("numeric", DataType.DECIMAL),
        "paid": SqlType("boolean", DataType.BOOL),
        "Gift Note": SqlType("text", DataType.STRING),
        "origin": SqlType("inet", DataType.STRING),
    }
    note = (await _relation(shop_dsn, "customer")).column("note")
    assert note is not None
    assert note.sql_type == SqlType("json", None)


async def test_keys_are_those_that_cover_every_row(shop_dsn: str) -> None:
    order = await _relation(shop_dsn, "Order")
    assert order.primary_key == ("id",)
    assert order.unique_keys == (("id",),)
    assert order.indexed == {"id", "placed_at"}
    assert order.foreign_keys == (
        ForeignKey(("customer_id",), "sales", "customer", ("customer_id",)),
        ForeignKey(("sku",), "sales", "product", ("sku",)),
    )
    assert (await _relation(shop_dsn, "customer")).unique_keys == (("customer_id",), ("email",))
    visit = await _relation(shop_dsn, "visit")
    assert (visit.primary_key, visit.ranged_by, order.ranged_by) == (("id", "at"), "at", "")
    assert [visit.narrowed(name) for name in ("id", "at", "page")] == [True, True, False]


async def test_statistics_and_comments_are_read(shop_dsn: str) -> None:
    order = await _relation(shop_dsn, "Order")
    columns = {column.name: column for column in order.columns}
    assert order.rows == 3000
    assert order.comment == "One row per order line."
    assert columns["channel"].distinct == 2
    assert columns["id"].distinct == 3000
    assert not columns["placed_at"].nullable
    assert columns["shipped_at"].nullable
    customer = await _relation(shop_dsn, "customer")
    country = customer.column("country")
    assert country is not None
    assert country.comment == "ISO 3166, two letters"
    assert (await _relation(shop_dsn, "visit")).rows == 9000
    assert (await _relation(shop_dsn, "paid_orders")).rows == 0


async def test_statements_are_described_without_running_them(shop_dsn: str) -> None:
    async with open_catalog(shop_dsn) as catalog:
        numbers, wrong, enum, broken = await catalog.describe([
            'SELECT quantity * 2, total + 1, 1 / 0 FROM sales."Order"',
            'SELECT quantty FROM sales."Order" AS "order"',
            'SELECT channel FROM sales."Order"',
            "SELECT (",
        ])  # fmt: skip
    assert [t.type for t in numbers.types] == [DataType.INT64, DataType.DECIMAL, DataType.INT64]
    assert enum.types == (SqlType("sales.channel", DataType.STRING),)
    assert wrong.error == (
        'column "quantty" does not exist; Perhaps you meant to reference the column "order.quantity".'
    )
    assert broken.error.startswith("syntax error")


async def test_functions_are_known_by_what_they_may_do(shop_dsn: str) -> None:
    async with open_catalog(shop_dsn) as catalog:
        found = {f.name: f for f in await catalog.functions(["lower", "random", "sum", "unnest", "nosuch"])}
    assert set(found) == {"lower", "random", "sum", "unnest"}
    assert found["lower"] == FunctionFacts("lower")
    assert found["random"].volatile
    assert found["sum"].aggregate
    assert found["unnest"].returns_set


async def test_a_row_is_found_or_not(shop_dsn: str) -> None:
    async with open_catalog(shop_dsn) as catalog:
        assert await catalog.exists('SELECT FROM sales."Order" WHERE quantity = 9') is True
        assert await catalog.exists('SELECT FROM sales."Order" WHERE quantity = 10') is False


async def test_a_search_that_takes_too_long_is_given_up(shop_dsn: str) -> None:
    connection = await asyncpg.connect(shop_dsn)
    try:
        assert await PgCatalog(connection, patience=0.01).exists("SELECT FROM pg_sleep(60)") is None
        assert await PgCatalog(connection).exists("SELECT") is True
    finally:
        await connection.close()


async def test_an_unreachable_database_is_named_as_such() -> None:
    with pytest.raises(BrokerError) as caught:
        async with open_catalog("postgresql://nobody@127.0.0.1:1/none"):
            pass
    assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert "check its address" in caught.value.message
