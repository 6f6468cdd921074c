"""Proposals for catalogs that exist in values only: odd names, odd types, many tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from broker.config.loader import load_text
from broker.config.propose import MAX_DATASETS, propose
from broker.config.propose_members import MAX_AMOUNTS, MAX_DIMENSIONS
from broker.config.propose_names import Names, clean, scalar, stem
from broker.domain.model import Dataset
from broker.domain.relations import (
    DatabaseCatalog,
    ForeignKey,
    Relation,
    RelationColumn,
    RelationKind,
    ServerFacts,
    SqlType,
)
from broker.domain.values import DataType

SERVER = ServerFacts("18", "db", "reader")
BIGINT = SqlType("bigint", DataType.INT64)
TEXT = SqlType("text", DataType.STRING)
DOUBLE = SqlType("double precision", DataType.DOUBLE)
STAMP = SqlType("timestamp with time zone", DataType.TIMESTAMP)


def table(name: str, *columns: RelationColumn, rows: int = 1000, **more: object) -> Relation:
    relation = Relation("public", name, RelationKind.TABLE, columns, rows=rows)
    return replace(relation, **more)  # type: ignore[arg-type]  # fields by name, in tests only


def column(name: str, kind: SqlType = TEXT, distinct: float | None = None, **more: object) -> RelationColumn:
    return replace(RelationColumn(name, kind, distinct=distinct), **more)  # type: ignore[arg-type]  # as above


def load(*relations: Relation) -> dict[str, Dataset]:
    """The proposed datasets; the text must load."""
    text = propose(DatabaseCatalog(SERVER, relations))
    configuration = load_text(text, {}, database_needed=False)
    assert configuration.findings == ()
    return dict(configuration.model.datasets)


def test_names_that_a_model_cannot_have_are_changed_and_still_found() -> None:
    odd = table(
        "2024 Sales–Q1",
        column("Größe (cm)", BIGINT),
        column("a.b"),
        column("A.B"),
        column("__x__y"),
        column("order"),
        column("yes", SqlType("boolean", DataType.BOOL)),
        column("null"),
        column('it\'s "quoted": {yes}, #1'),
        column("n" * 63),
        column("n" * 63 + "2"),
        comment='Says: "hello", {and} # more\non two lines',
    )
    (dataset,) = load(odd).values()
    assert dataset.name == "c_2024_sales_q1"
    assert dataset.table == 'public."2024 Sales–Q1"'
    assert dataset.description == 'Says: "hello", {and} # more on two lines'
    sql = {name: d.sql.partition(".")[2] for name, d in dataset.dimensions.items()}
    assert sql == {
        "a_b": '"a.b"',
        "a_b_2": '"A.B"',
        "x_y": "__x__y",
        "order": '"order"',
        "yes": "yes",
        "null": '"null"',
        "it_s_quoted_yes_1": '"it\'s ""quoted"": {yes}, #1"',
        "n" * 63: "n" * 63,
        "n" * 59 + "_2": "n" * 63 + "2",
    }
    assert dataset.measures["total_grosse_cm"].sql.endswith('"Größe (cm)"')


def test_columns_become_what_they_are_good_for() -> None:
    (dataset,) = load(
        table(
            "events",
            column("id", BIGINT, 1000),
            column("kind", TEXT, 5),
            column("session_id", TEXT, 900),
            column("message", TEXT),
            column("free_text", TEXT, 999),
            column("month", BIGINT, 12),
            column("retries", BIGINT, 4),
            column("bytes", BIGINT, 800),
            column("lat", DOUBLE),
            column("payload", SqlType("jsonb", None)),
            column("created", STAMP),
            column("seen_at", SqlType("timestamp without time zone", DataType.TIMESTAMP, zoned=False)),
            column("amount", SqlType("numeric", DataType.DECIMAL)),
            column("rounded", SqlType("numeric(5,-2)", DataType.DECIMAL, scale=-2)),
            primary_key=("id",),
        )
    ).values()
    assert list(dataset.dimensions) == ["kind", "session_id", "month", "retries", "created", "seen_at"]
    assert list(dataset.measures) == [
        "events", "distinct_session", "total_retries", "average_retries", "total_bytes", "average_bytes",
        "total_amount", "average_amount", "total_rounded", "average_rounded",
    ]  # fmt: skip
    assert dataset.default_time == "created"
    assert dataset.dimensions["seen_at"].stored_zone == "UTC"
    assert (dataset.measures["total_amount"].scale, dataset.measures["total_rounded"].scale) == (6, 0)
    assert dataset.primary_key == ("id",)


def test_parts_of_a_key_group_and_are_not_added_up() -> None:
    columns = (column("Order No.", BIGINT), column("line", BIGINT), column("amount", BIGINT))
    dataset = load(table("lines", *columns, primary_key=("Order No.", "line")))["lines"]
    assert set(dataset.dimensions) == {"order_no", "line"}
    assert set(dataset.measures) == {"lines", "total_amount", "average_amount"}


def test_foreign_keys_become_joins_two_steps_deep() -> None:
    country = table("country", column("code"), column("name"), primary_key=("code",))
    city = table(
        "city",
        column("id", BIGINT),
        column("name"),
        column("country_code"),
        primary_key=("id",),
        foreign_keys=(ForeignKey(("country_code",), "public", "country", ("code",)),),
    )
    trip = table(
        "trip",
        column("id", BIGINT),
        column("from_id", BIGINT),
        column("to_id", BIGINT),
        column("parent_id", BIGINT),
        column("ticket_id", BIGINT),
        rows=10**6,
        primary_key=("id",),
        unique_keys=(("id",), ("ticket_id",)),
        foreign_keys=(
            ForeignKey(("from_id",), "public", "city", ("id",)),
            ForeignKey(("to_id",), "public", "city", ("id",)),
            ForeignKey(("parent_id",), "public", "trip", ("id",)),
            ForeignKey(("ticket_id",), "public", "ticket", ("id",)),
            ForeignKey(("lost_id",), "hidden", "lost", ("id",)),
        ),
    )
    ticket = table("ticket", column("id", BIGINT), column("class", TEXT, 3), primary_key=("id",))
    joins = load(country, city, ticket, trip)["trip"].joins
    assert {name: (join.on, join.parent) for name, join in joins.items()} == {
        "from": ('"from".id = trip.from_id', "trip"),
        "to": ('"to".id = trip.to_id', "trip"),
        "parent": ("parent.id = trip.parent_id", "trip"),
        "ticket": ("ticket.id = trip.ticket_id", "trip"),
        "country": ('country.code = "from".country_code', "from"),
        "to_country": ('to_country.code = "to".country_code', "to"),
    }
    assert [name for name, join in joins.items() if join.kind == "one_to_one"] == ["ticket"]


def test_joins_that_names_suggest_are_comments() -> None:
    text = propose(
        DatabaseCatalog(
            SERVER,
            (
                table("airlines", column("carrier"), column("name"), rows=16, primary_key=("carrier",)),
                table("flights", column("carrier"), column("time", STAMP), rows=10_000),
            ),
        )
    )
    assert "    #   airlines: {table: public.airlines, on: airlines.carrier = flights.carrier}" in text
    assert "joins" not in yaml.safe_load(text)["datasets"]["flights"]


def test_the_biggest_tables_come_first_and_the_rest_is_mentioned() -> None:
    relations = [table(f"t{n:02}", column("kind"), rows=n) for n in range(MAX_DATASETS + 3)]
    view = replace(table("a_view", column("kind"), rows=0), kind=RelationKind.VIEW)
    text = propose(DatabaseCatalog(SERVER, (view, *relations, table("schema_migrations", column("version")))))
    assert list(yaml.safe_load(text)["datasets"]) == [f"t{n:02}" for n in range(MAX_DATASETS + 2, 2, -1)]
    assert text.endswith("named:\n#   public.t02\n#   public.t01\n#   public.t00\n#   public.a_view\n")


def test_wide_tables_are_cut_and_say_so() -> None:
    wide = table(
        "wide",
        *(column(f"d{n}", TEXT, 5) for n in range(MAX_DIMENSIONS + 1)),
        *(column(f"x{n}", DOUBLE) for n in range(MAX_AMOUNTS + 1)),
    )
    (dataset,) = load(wide).values()
    assert len(dataset.dimensions) == MAX_DIMENSIONS
    assert len(dataset.measures) == 1 + 2 * MAX_AMOUNTS
    text = propose(DatabaseCatalog(SERVER, (wide,)))
    assert f"# Left out: d{MAX_DIMENSIONS} (one of many), x{MAX_AMOUNTS} (one of many)" in text
    assert max(map(len, text.splitlines())) <= 120


def test_tables_of_one_name_in_two_schemas_are_told_apart() -> None:
    here, there = table("orders", column("kind"), rows=5), table("orders", column("kind"), rows=4)
    assert set(load(here, replace(there, schema="archive"))) == {"orders", "archive_orders"}


def test_a_database_without_tables_says_what_is_missing() -> None:
    hidden = table("orders", column("kind"), readable=False)
    with pytest.raises(ValueError, match="the role 'reader' can read no table or view of 'db': GRANT SELECT"):
        propose(DatabaseCatalog(SERVER, (hidden,)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Order ID", "order_id"),
        ("_a__b_", "a_b"),
        ("9lives", "c_9lives"),
        ("é", "e"),
        ("Größe", "grosse"),
        ("выручка", "c"),
        ("A" * 80, "a" * 63),
    ],
)
def test_clean_names(text: str, name: str) -> None:
    assert clean(text) == name


def test_names_are_handed_out_once() -> None:
    names = Names("orders")
    assert [names.take("orders"), names.take("orders", "rows"), names.take("orders", "rows")] == [
        "orders_2", "rows", "rows_2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "public.orders",
        'sales."Order"',
        "a = b",
        "yes",
        "null",
        "1",
        "a: b",
        "{x}",
        "#",
        "",
        " a",
        "a ",
        'a"',
        "ä",
        "- a",
    ],
)
def test_scalars_are_read_back_by_every_reader(text: str) -> None:
    assert yaml.safe_load(f"key: {scalar(text)}") == {"key": text}
    assert yaml.safe_load(f"{{key: {scalar(text)}, other: 1}}") == {"key": text, "other": 1}


def test_stems() -> None:
    stems = {
        "customer_id": "customer",
        "id": "id",
        "user_uuid": "user",
        "kind": "kind",
        "customerId": "customer",
    }
    stems |= {"Order_ID": "order", "uid": "uid", "paid": "paid", "_id": "_id"}
    assert {name: stem(name) for name in stems} == stems
