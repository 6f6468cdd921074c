"""SQL that is right: what is kept as written, what is put before it, and which tables are found."""

from __future__ import annotations

import pytest

from broker.config.expressions import Expression, functions_in, read_column, read_expression
from broker.config.sql_text import quote, read_table, rows, show_table
from broker.domain.model import Dataset, Join

ALIASES = ("flights", "airlines", "order")


@pytest.mark.parametrize(
    ("text", "sql", "tables"),
    [
        ("carrier", "flights.carrier", ("flights",)),
        ("airlines.name || carrier", "airlines.name || flights.carrier", ("airlines", "flights")),
        ("FLIGHTS.Carrier", "flights.Carrier", ("flights",)),
        ('"Gift Note"', 'flights."Gift Note"', ("flights",)),
        ("order.id", '"order".id', ("order",)),
        ('"order"."Id"', '"order"."Id"', ("order",)),
        ("5", "5", ()),
        ("'it''s; -- {tenant} $1 now()'", "'it''s; -- {tenant} $1 now()'", ()),
        ("'{1,2}'::int[] @> array[month]", "'{1,2}'::int[] @> array[flights.month]", ("flights",)),
        ("time_hour AT TIME ZONE 'UTC'", "(flights.time_hour AT TIME ZONE 'UTC')", ("flights",)),
        ("interval '1 day'", "(interval '1 day')", ()),
        ("to_char(time_hour, 'FMDay, YYYY')", "to_char(flights.time_hour, 'FMDay, YYYY')", ("flights",)),
        ("extract(hour FROM time_hour)::int", "extract(hour FROM flights.time_hour)::int", ("flights",)),
        ('carrier COLLATE "C" < dest', 'flights.carrier COLLATE "C" < flights.dest', ("flights",)),
        ("trim(both 'x' from dest)", "trim(both 'x' from flights.dest)", ("flights",)),
        ("CASE WHEN a THEN 1 ELSE b END", "CASE WHEN flights.a THEN 1 ELSE flights.b END", ("flights",)),
        ("carrier IN ('AA', 'UA')", "flights.carrier IN ('AA', 'UA')", ("flights",)),
        ("my.func(dest, 1)", "my.func(flights.dest, 1)", ("flights",)),
        ("lower(É) || 'ü' || b", "lower(flights.É) || 'ü' || flights.b", ("flights",)),
        ("data ->> 'key' IS NULL", "flights.data ->> 'key' IS NULL", ("flights",)),
        ("make_interval(days => b)", "make_interval(days => flights.b)", ("flights",)),
        ("(point).x", "(flights.point).x", ("flights",)),
        ("year * 12 + month", "flights.year * 12 + flights.month", ("flights",)),
        ("date", "flights.date", ("flights",)),
        ("dest = 'now'::text", "flights.dest = 'now'::text", ("flights",)),
        ("dest LIKE 'today%'", "flights.dest LIKE 'today%'", ("flights",)),
        ("dest = 'yesterday night'", "flights.dest = 'yesterday night'", ("flights",)),
        ("age(a, b)", "age(flights.a, flights.b)", ("flights",)),
        ("a::my.mood = 'glad'", "flights.a::my.mood = 'glad'", ("flights",)),
        ("  carrier\n  || dest ", "flights.carrier\n  || flights.dest", ("flights",)),
    ],
)
def test_text_is_kept_and_columns_are_qualified(text: str, sql: str, tables: tuple[str, ...]) -> None:
    assert read_expression(text, "flights", ALIASES) == Expression(sql, tables)


def test_what_was_read_is_read_again_as_the_same() -> None:
    first = read_expression("upper(carrier) = order.id AND airlines.name <> ''", "flights", ALIASES)
    assert isinstance(first, Expression)
    assert read_expression(first.sql, "flights", ALIASES) == first


def test_values_of_the_caller_are_kept_where_they_are_allowed() -> None:
    values = ("tenant", "principal", "attributes.")
    text = "carrier = { tenant } OR dest = {attributes.home} OR note = '{other}' OR {tenant} = {principal}"
    sql = (
        "flights.carrier = {tenant} OR flights.dest = {attributes.home} OR flights.note = '{other}' "
        "OR {tenant} = {principal}"
    )
    assert read_expression(text, "flights", ALIASES, values=values) == Expression(sql, ("flights",))


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("carrier", "flights.carrier"),
        ("airlines.name", "airlines.name"),
        ("order.Group", '"order"."Group"'),
        ("Gift Note", 'flights."Gift Note"'),
        ("user", 'flights."user"'),
        ('say "hi"', 'flights."say ""hi"""'),
    ],
)
def test_columns_are_taken_literally(text: str, sql: str) -> None:
    found = read_column(text, "flights", ALIASES)
    assert isinstance(found, Expression)
    assert found.sql == sql


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("flights", ("public", "flights")),
        ("Sales.Orders", ("sales", "orders")),
        ('sales."Order"', ("sales", "Order")),
        ('"a.b"."c""d"', ("a.b", 'c"d')),
        ("größe.maß_1$", ("größe", "maß_1$")),
        ("a.b.c", None),
        ("a b", None),
        ("1a", None),
        ("", None),
    ],
)
def test_tables_are_read_as_postgresql_reads_them(text: str, table: tuple[str, str] | None) -> None:
    assert read_table(text) == table
    if table is not None:
        assert read_table(show_table(*table)) == table


def test_names_are_quoted_only_where_they_must_be() -> None:
    assert [quote(name) for name in ("a_1", "order", "A", "a b", "1", 'a"')] == [
        "a_1", '"order"', '"A"', '"a b"', '"1"', '"a"""',
    ]  # fmt: skip


def test_rows_come_from_the_tables_that_are_needed_parents_first() -> None:
    joins = {
        "country": Join("country", "public.country", "country.id = city.country", "city"),
        "city": Join("city", "public.city", 'city.id = "order".city', "order"),
        "other": Join("other", "public.other", 'other.id = "order".other', "order"),
    }
    dataset = Dataset("order", "sales.orders", {}, {}, joins)
    assert rows(dataset, ()) == 'FROM sales.orders AS "order"'
    assert rows(dataset, ("country", "order")) == (
        'FROM sales.orders AS "order" LEFT JOIN public.city AS city ON city.id = "order".city '
        "LEFT JOIN public.country AS country ON country.id = city.country"
    )


def test_functions_are_found_by_their_names() -> None:
    assert functions_in("Lower(a) || my.func (b) || 'now()'") == {"lower", "func"}
