"""From a log of questions to YAML that can be pasted: what is proposed is what the configuration then says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from broker.config.loader import load_text
from broker.config.machine import Machine
from broker.domain.model import Model
from broker.domain.principal import Principal
from broker.domain.query import Condition, DateRange, Grain, Operator, Query, TimeSelection
from broker.domain.relations import (
    DatabaseCatalog,
    Relation,
    RelationColumn,
    RelationKind,
    ServerFacts,
    SqlType,
)
from broker.domain.rollup import Span, micros
from broker.domain.values import DataType
from broker.policy.resolve import resolve_query
from broker.policy.rollups.advise import Logged
from broker.policy.rollups.candidates import Candidates
from broker.rollups.advise import facts_of, propose
from broker.rollups.query_log import Record
from tests.support.segments import START

SALES = """\
datasets:
  sales:
    table: shop.sales
    primary_key: {id: int64}
    default_time: placed
    joins:
      customer: {table: shop.customers, on: customer.id = sales.customer_id}
    dimensions:
      placed: timestamp
      shipped: date
      region: string
      product: string
      segment: {column: customer.segment, type: string}
      paid: bool
      place: {sql: "sales.region || sales.product", type: string}
      week: {sql: "extract(week from sales.placed)::int8", type: int64}
    measures:
      orders: count
      revenue: {kind: sum, column: price, type: decimal, scale: 2}
      mean: {kind: ratio, numerator: revenue, denominator: orders}
      buyers: {kind: approx_distinct, column: customer_id, type: int64}
      everyone: {kind: exact_distinct, column: customer_id, type: int64}
    row_policies:
      own: {sql: "sales.region = {attributes.region}", unless: [all_rows]}
"""
TEXT = SqlType("text", DataType.STRING)


def column(name: str, distinct: float | None) -> RelationColumn:
    return RelationColumn(name, TEXT, distinct=distinct)


CATALOG = DatabaseCatalog(
    ServerFacts("18", "shop", "broker"),
    (
        Relation("shop", "customers", RelationKind.TABLE, (column("segment", 4.0),), rows=1000),
        Relation(
            "shop",
            "sales",
            RelationKind.TABLE,
            (
                column("placed", 9e6),
                column("region", 12.0),
                column("product", 500.0),
                column("shipped", None),
            ),
            rows=10_000_000,
        ),
    ),
)
SOMEBODY = Principal("ada", "acme", attributes={"region": "north"})
YEAR = DateRange(date(2029, 1, 1), date(2030, 1, 1))


def load(text: str) -> Model:
    made = load_text(
        text,
        {"DATABASE_URL": "postgresql://db/x"},
        source="broker.yaml",
        folder=Path("/etc/broker"),
        machine=Machine(4),
    )
    return made.model


@pytest.fixture(scope="module")
def model() -> Model:
    return load(SALES)


def record(query: Query, count: int = 100, seconds: float = 500.0, policies: tuple[str, ...] = ()) -> Record:
    return Record(str(hash(query)), query, policies, count, seconds, START)


def by(*dimensions: str, measures: tuple[str, ...] = ("orders",), grain: Grain | None = Grain.DAY) -> Query:
    return Query("sales", measures, dimensions, TimeSelection("placed", grain, "Europe/Paris", YEAR))


PAST = [
    record(by("region", measures=("mean", "orders"), grain=Grain.HOUR)),
    record(by(), policies=("own",)),
    record(
        replace(by("segment", measures=("buyers",)), filter=Condition("region", Operator.EQ, ("north",))), 50
    ),
    record(by("product", measures=("everyone",)), 7),
    record(Query("sales", ("gone",)), 3),
    record(Query("elsewhere", ("orders",)), 2),
]


def test_what_is_proposed_can_be_pasted_and_is_what_was_meant(model: Model) -> None:
    proposed = propose(model, PAST, CATALOG)
    (advice,) = proposed.advice
    assert advice.proposals
    pasted = load(SALES + proposed.yaml.removeprefix("datasets:\n  sales:\n")).datasets["sales"]
    assert dict(pasted.rollups) == {proposal.rollup.name: proposal.rollup for proposal in advice.proposals}
    assert "answers" in proposed.yaml
    assert "MB" in proposed.yaml


def test_the_predicted_hit_rate_is_that_of_the_rules_over_the_pasted_model(model: Model) -> None:
    proposed = propose(model, PAST, CATALOG)
    (advice,) = proposed.advice
    assert proposed.unknown == 5
    pasted = load(SALES + proposed.yaml.removeprefix("datasets:\n  sales:\n")).datasets["sales"]
    index = Candidates(pasted)
    hits = 0
    for each in PAST[:4]:
        (policy,) = pasted.row_policies
        dataset = replace(pasted, row_policies=(policy,) if each.policies else ())
        plan = resolve_query(each.query, dataset, SOMEBODY, START)
        hits += each.count * bool(index.check(plan.main).accepted)
    assert (advice.hit_count, advice.question_count) == (hits, 257) == (250, 257)


def test_nothing_is_written_when_nothing_is_proposed(model: Model) -> None:
    proposed = propose(model, [record(by("product", measures=("everyone",)))], CATALOG)
    assert proposed.yaml == ""
    assert [advice.hit_rate for advice in proposed.advice] == [0.0]
    assert propose(model, [], CATALOG).advice == ()


def test_a_date_dimension_gets_days(model: Model) -> None:
    query = Query("sales", ("orders",), ("region",), TimeSelection("shipped", Grain.MONTH, "UTC", YEAR))
    proposed = propose(model, [record(query)], CATALOG)
    ((proposal,),) = [advice.proposals for advice in proposed.advice]
    assert proposal.rollup.time == "shipped"
    assert proposal.rollup.grains == (Grain.DAY, Grain.MONTH)
    pasted = load(SALES + proposed.yaml.removeprefix("datasets:\n  sales:\n")).datasets["sales"]
    assert list(pasted.rollups.values()) == [proposal.rollup]


def test_facts_come_from_the_statistics_of_columns(model: Model) -> None:
    plan = resolve_query(by(), model.datasets["sales"], SOMEBODY, START)
    facts = facts_of(model.datasets["sales"], [Logged(plan, 1, 1.0)], CATALOG)
    assert facts.rows == 10_000_000
    assert facts.distinct == {
        "placed": 9e6, "shipped": 100.0, "region": 12.0, "product": 500.0, "segment": 4.0, "paid": 3.0,
        "place": 6000.0, "week": 9e6,
    }  # fmt: skip
    start = datetime(2028, 12, 31, 23, tzinfo=UTC)
    assert facts.extent == Span(micros(start), micros(start.replace(year=2029)))
    known = Span(0, 1)
    assert facts_of(model.datasets["sales"], [], CATALOG, known).extent == known
