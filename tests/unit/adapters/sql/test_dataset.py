"""The SQL of a dataset: what counts as an expression, row policies, and which tables are read."""

import pytest

from broker.adapters.sql.dataset import (
    DatasetSql,
    ModelSqlError,
    parse_expression,
    read_expression,
    read_policy,
)
from broker.adapters.sql.values import DIALECT, Places
from broker.domain.model import RowPolicy
from tests.support.datasets import flights


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a; b",
        "a, b",
        "SELECT 1",
        "a AS b",
        "1) FROM x --",
        "a -- b",
        "a /* b */",
        "DROP TABLE x",
        "a = 'open",
        "a\x00",
    ],
)
def test_not_an_expression(text: str) -> None:
    with pytest.raises(ModelSqlError):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("t.a", "t.a"),
        ('t."A b"', 't."A b"'),
        ("to_hex(t.a)", "(to_hex(t.a))"),
        ("date_part('hour', t.a)", "(date_part('hour', t.a))"),
        ("t.a OR t.b", "(t.a OR t.b)"),
        ("t.a AT TIME ZONE 'UTC'", "(t.a AT TIME ZONE 'UTC')"),
        ("t.a::date", "t.a::date"),
        ("-t.a", "(-t.a)"),
        ("CASE WHEN t.a THEN 1 END", "(CASE WHEN t.a THEN 1 END)"),
    ],
)
def test_expressions_stand_as_they_were_written(text: str, written: str) -> None:
    assert read_expression(text).sql(dialect=DIALECT) == written


def test_policies_take_values_of_the_principal() -> None:
    policy = read_policy("t.tenant = {tenant} AND t.owner = {principal} AND t.x = {attributes.region}::int")
    assert policy.sources == ("tenant", "principal", "attributes.region")
    places = Places()
    node = DatasetSql(flights()).policy(RowPolicy("p", "t.a = {tenant} OR t.b = {tenant}", ()), places)
    assert node.sql(dialect=DIALECT).count("\x00") == 4
    assert len(places.all()) == 2


@pytest.mark.parametrize(
    "text", ["t.a = '{tenant}'", "t.a = $1", "t.a = {tenant} AND t.b = $1", "t.a = {region}", "{tenant}; x"]
)
def test_policies_that_would_not_bind_values(text: str) -> None:
    with pytest.raises(ModelSqlError):
        read_policy(text)


@pytest.mark.parametrize(
    ("aliases", "joins"),
    [
        ((), ()),
        (("flights",), ()),
        (("airlines",), ("airlines",)),
        (("dest_airport", "airlines", "dest_airport"), ("dest_airport", "airlines")),
        (("twins",), ("planes", "twins")),
        (("twins", "planes", "flights"), ("planes", "twins")),
    ],
)
def test_only_the_joins_that_are_needed_parents_first(
    aliases: tuple[str, ...], joins: tuple[str, ...]
) -> None:
    sql = DatasetSql(flights())
    assert sql.joins(aliases) == joins
    text = sql.rows(aliases).select("1").sql(dialect=DIALECT)
    assert text.count("LEFT JOIN") == len(joins)
    assert sql.multiplies(aliases) is ("twins" in joins)
