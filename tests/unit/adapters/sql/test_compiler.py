"""Compiling: what is shape, what is value, and what is kept."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from broker.adapters.sql.compiler import Recent, SqlCompiler
from broker.adapters.sql.statements import Statement
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, RowPolicy
from broker.domain.plan import Plan
from broker.domain.principal import Principal
from broker.domain.query import (
    AllOf,
    AnyOf,
    Calculations,
    CompareTo,
    Condition,
    DateRange,
    Grain,
    Not,
    Operator,
    OrderKey,
    Query,
    TimeSelection,
)
from broker.domain.values import ColumnRole, DataType
from broker.policy.resolve import resolve_query
from tests.support.datasets import flights

DATASET = flights()
NOW = datetime(2013, 12, 31, tzinfo=UTC)
YEAR = DateRange(date(2013, 1, 1), date(2014, 1, 1))
PRINCIPAL = Principal("ada", "acme", attributes={"carrier": "UA"})


def plan(query: Query, dataset: Dataset = DATASET, principal: Principal = PRINCIPAL) -> Plan:
    return resolve_query(query, dataset, principal, NOW)


def grouped(compiler: SqlCompiler, query: Query, dataset: Dataset = DATASET) -> Statement:
    statement = compiler.compile(plan(query, dataset))[0].grouped
    assert statement is not None
    return statement


BASE = Query(
    "flights",
    measures=("flights", "mean_delay"),
    dimensions=("carrier",),
    time=TimeSelection(grain=Grain.MONTH, range=YEAR, zone="America/New_York"),
    filter=AllOf((Condition("origin", Operator.IN, ("JFK",)), Condition("month", Operator.GE, (2,)))),
    having=Condition("flights", Operator.GT, (10,)),
    order=(OrderKey("mean_delay", descending=True),),
    limit=7,
)
OTHER_VALUES = [
    replace(BASE, limit=100),
    replace(BASE, having=Condition("flights", Operator.GT, (0,))),
    replace(
        BASE,
        filter=AllOf(
            (Condition("origin", Operator.IN, ("LGA", "EWR", "JFK")), Condition("month", Operator.GE, (12,)))
        ),
    ),
    replace(BASE, time=TimeSelection(grain=Grain.DAY, range=YEAR, zone="Asia/Kathmandu")),
]
OTHER_SHAPES = [
    replace(BASE, limit=0),
    replace(BASE, measures=("flights", "mean_delay", "worst")),
    replace(BASE, dimensions=("carrier", "origin")),
    replace(BASE, dimensions=("origin",)),
    replace(BASE, having=None),
    replace(BASE, having=Condition("flights", Operator.GE, (10,))),
    replace(BASE, order=(OrderKey("mean_delay"),)),
    replace(BASE, order=(OrderKey("mean_delay", descending=True, nulls_first=True),)),
    replace(BASE, filter=None),
    replace(BASE, filter=AnyOf(BASE.filter.filters if isinstance(BASE.filter, AllOf) else ())),
    replace(BASE, filter=Not(Condition("origin", Operator.IN, ("JFK",)))),
    replace(BASE, time=TimeSelection(range=YEAR)),
    replace(BASE, time=TimeSelection(dimension="day", grain=Grain.MONTH, range=YEAR)),
    replace(BASE, time=None),
]


@pytest.mark.parametrize("query", OTHER_VALUES)
def test_values_leave_the_statement_as_it_is(query: Query) -> None:
    compiler = SqlCompiler()
    first, second = grouped(compiler, BASE), grouped(compiler, query)
    assert second.compiled is first.compiled
    assert second.shape == first.shape
    assert second.values != first.values
    assert second.literal() != first.literal()


@pytest.mark.parametrize("query", OTHER_SHAPES)
def test_anything_else_is_another_statement(query: Query) -> None:
    compiler = SqlCompiler()
    first, second = grouped(compiler, BASE), grouped(compiler, query)
    assert second.shape != first.shape
    assert second.whole()[0] != first.whole()[0]


def test_equal_questions_to_different_datasets_do_not_share() -> None:
    compiler = SqlCompiler()
    renamed = replace(DATASET, table="other.flights")
    assert grouped(compiler, BASE).compiled is not grouped(compiler, BASE, renamed).compiled
    assert "other.flights" in grouped(compiler, BASE, renamed).literal()


def test_a_kept_statement_touches_no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = SqlCompiler()
    grouped(compiler, BASE)
    monkeypatch.setattr("broker.adapters.sql.compiler.ScanBuilder", None)
    assert grouped(compiler, OTHER_VALUES[0]).values


def test_the_memory_of_shapes_is_bounded() -> None:
    recent: Recent[int, str] = Recent(2)
    for key in (1, 2):
        recent.put(key, str(key))
    assert recent.get(1) == "1"
    recent.put(3, "3")
    assert [recent.get(key) for key in (1, 2, 3)] == ["1", None, "3"]
    assert len(recent) == 2


def test_columns_are_named_and_typed_for_kernels() -> None:
    columns = grouped(SqlCompiler(), replace(BASE, dimensions=("carrier", "hours"))).columns
    assert [(c.name, c.type, c.role, c.scale) for c in columns] == [
        ("bucket", DataType.INT64, ColumnRole.TIME_BUCKET, 0),
        ("k0", DataType.STRING, ColumnRole.DIMENSION, 0),
        ("k1", DataType.DECIMAL, ColumnRole.DIMENSION, 1),
        ("flights.n", DataType.INT64, ColumnRole.MEASURE, 0),
        ("mean_delay.n", DataType.INT64, ColumnRole.MEASURE, 0),
        ("mean_delay.s", DataType.INT64, ColumnRole.MEASURE, 0),
    ]


def test_rows_that_a_statement_can_return_at_most() -> None:
    compiler = SqlCompiler()
    assert grouped(compiler, BASE).row_limit == 7
    assert grouped(compiler, replace(BASE, limit=0)).row_limit is None
    assert grouped(compiler, replace(BASE, limit=0, dimensions=())).row_limit == 12
    assert grouped(compiler, Query("flights", measures=("flights",))).row_limit == 1


def test_a_cap_keeps_order_and_limit() -> None:
    compiler = SqlCompiler()
    limited = grouped(compiler, replace(BASE, limit=5_000))
    text, values = limited.capped(2_001)
    assert (text, values[-1]) == (limited.whole()[0], 2_001)
    ordered = grouped(compiler, replace(BASE, limit=0))
    text, values = ordered.capped(2_001)
    assert text == f"{ordered.whole()[0]} LIMIT ${len(values)}::bigint"
    assert values == (*ordered.values, 2_001)
    compared = replace(BASE, limit=0, calculations=Calculations(compare_to=CompareTo(1, Grain.YEAR)))
    text, values = grouped(compiler, compared).capped(2_001)
    assert text.startswith("SELECT * FROM (SELECT ")
    assert text.endswith(f"ORDER BY 1 LIMIT ${len(values)}::bigint")


def test_joins_follow_from_the_members() -> None:
    compiler = SqlCompiler()
    assert "JOIN" not in grouped(compiler, BASE).literal()
    text = grouped(
        compiler, replace(BASE, filter=Condition("carrier_name", Operator.EQ, ("United Air Lines Inc.",)))
    ).literal()
    assert text.count("JOIN") == 1
    assert "public.airlines" in text


def test_sketches_are_read_as_values() -> None:
    (statements,) = SqlCompiler().compile(
        plan(Query("flights", measures=("approx_planes", "approx_p90"), dimensions=("origin",)))
    )
    assert statements.grouped is not None
    assert [c.name for c in statements.grouped.columns] == ["k0"]
    assert [c.name for c in statements.values["approx_planes"].columns] == ["k0", "value", "weight"]
    assert statements.values["approx_p90"].columns[1].type is DataType.DOUBLE
    (alone,) = SqlCompiler().compile(plan(Query("flights", measures=("approx_planes",))))
    assert alone.grouped is None
    assert len(alone.all()) == 1


def test_a_comparison_is_the_same_statement_with_other_values() -> None:
    query = Query(
        "flights",
        measures=("flights",),
        time=TimeSelection(grain=Grain.MONTH, range=YEAR),
        calculations=Calculations(compare_to=CompareTo(1, Grain.YEAR)),
    )
    main, compared = SqlCompiler().compile(plan(query))
    assert main.grouped is not None
    assert compared.grouped is not None
    assert main.grouped.compiled is compared.grouped.compiled
    assert main.grouped.values != compared.grouped.values


def test_policies_bind_the_principal() -> None:
    dataset = flights(
        policies=[RowPolicy("own", "flights.carrier = {attributes.carrier}", ("flights",), ("all",))]
    )
    query = Query("flights", measures=("flights",))
    (statements,) = SqlCompiler().compile(plan(query, dataset))
    assert statements.grouped is not None
    assert statements.grouped.values == ("UA",)
    (free,) = SqlCompiler().compile(plan(query, dataset, replace(PRINCIPAL, grants=frozenset({"all"}))))
    assert free.grouped is not None
    assert free.grouped.values == ()
    with pytest.raises(BrokerError) as caught:
        SqlCompiler().compile(plan(query, dataset, Principal("eve", "acme")))
    assert caught.value.reason is ErrorReason.PERMISSION_DENIED


def test_values_that_no_database_can_hold_are_refused_before_it_is_asked() -> None:
    query = Query("flights", measures=("flights",), filter=Condition("carrier", Operator.EQ, ("a\x00",)))
    with pytest.raises(BrokerError) as caught:
        SqlCompiler().compile(plan(query))
    assert caught.value.reason is ErrorReason.INVALID_REQUEST


def test_dates_are_bounded_by_dates() -> None:
    query = Query("flights", measures=("flights",), time=TimeSelection("day", Grain.DAY, range=YEAR))
    statement = grouped(SqlCompiler(), query)
    assert statement.values[1:] == (date(2013, 1, 1), date(2014, 1, 1))
    assert statement.values[0] == tuple(date(2013, 1, 1) + timedelta(days=i) for i in range(365))


@pytest.mark.parametrize(
    ("grain", "first"), [(Grain.DAY, date(2013, 1, 1)), (Grain.WEEK, date(2012, 12, 31))]
)
def test_days_of_utc_are_counted_from_the_first(grain: Grain, first: date) -> None:
    query = Query("flights", measures=("flights",), time=TimeSelection(grain=grain, range=YEAR))
    counted = grouped(SqlCompiler(), query)
    assert counted.values[0] == first
    listed = grouped(
        SqlCompiler(), replace(query, time=TimeSelection(grain=grain, range=YEAR, zone="Asia/Tokyo"))
    )
    assert isinstance(listed.values[0], tuple)
    assert "WIDTH_BUCKET" in listed.compiled.text.prepared
    assert "WIDTH_BUCKET" not in counted.compiled.text.prepared


def test_statements_for_people_hold_their_values() -> None:
    (text,) = SqlCompiler().pretty(plan(BASE))
    assert "'JFK'" in text
    assert "$" not in text
    assert text.count("\n") > 10


def test_long_names_do_not_collide() -> None:
    names = [f"{'x' * 60}_{i}" for i in range(2)]
    measures = {name: replace(DATASET.measures["worst"], name=name) for name in names}
    dataset = replace(DATASET, measures=measures)
    statement = grouped(
        SqlCompiler(), Query("flights", measures=tuple(names), dimensions=("carrier",)), dataset
    )
    assert [c.name for c in statement.columns[1:]] == [f"{name}.v" for name in names]
    assert '"c1"' in statement.literal()
    assert '"c2"' in statement.literal()
