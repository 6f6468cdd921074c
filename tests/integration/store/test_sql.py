"""SQL of callers, all the way: through the gate, read by PostgreSQL, streamed."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from broker.adapters.pg_snapshot import ReadLimits
from broker.adapters.pg_store import PgStore
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import RowPolicy
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import SqlQuery
from broker.domain.values import DataType, Scalar
from broker.ports.store import SqlPlan
from tests.integration.store.conftest import PRINCIPAL, MakeStore, Row, in_time, rows_of
from tests.support.datasets import flights
from tests.support.flights_frames import FlightsFrames

DATASET = flights()


async def gate(store: PgStore, text: str, *parameters: Scalar) -> SqlPlan:
    return await store.gate(SqlQuery(text, parameters), (DATASET,), PRINCIPAL)


async def run(store: PgStore, plan: SqlPlan) -> list[Row]:
    async with (
        store.snapshot(PoolName.EXPLORATION, in_time()) as snapshot,
        aclosing(snapshot.stream_sql(plan)) as blocks,
    ):
        return rows_of([block async for block in blocks])


async def test_rows_and_columns(store: PgStore, flights_frames: FlightsFrames) -> None:
    plan = await gate(
        store,
        "SELECT f.carrier, count(*) AS n, min(time_hour), max(f.day) AS last, bool_or(late) AS late, "
        "avg(speed) AS speed, sum(hours)::numeric(20, 1) AS hours FROM flights f WHERE f.origin = $1 "
        "GROUP BY f.carrier ORDER BY n DESC, 1",
        "JFK",
    )
    assert [(c.name, c.type, c.scale) for c in plan.columns] == [
        ("carrier", DataType.STRING, 0),
        ("n", DataType.INT64, 0),
        ("min", DataType.TIMESTAMP, 0),
        ("last", DataType.DATE, 0),
        ("late", DataType.BOOL, 0),
        ("speed", DataType.DOUBLE, 0),
        ("hours", DataType.DECIMAL, 1),
    ]
    rows = await run(store, plan)
    counts = flights_frames.flights.filter(origin="JFK")["carrier"].value_counts()
    assert {row[0]: row[1] for row in rows} == dict(counts.iter_rows())
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), key=lambda n: -int(str(n)))
    first = rows[0]
    assert isinstance(first[2], int)
    assert first[2] % 3_600_000_000 == 0
    assert 15_700 < int(str(first[3])) < 16_100
    assert isinstance(first[6], Decimal)


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("SELECT 1, 'x', null, true, 2.5::float8, 1.25", (1, "x", None, True, 2.5, Decimal("1.25"))),
        ("SELECT date '1970-01-02', timestamptz '1970-01-01 00:00:01+00'", (1, 1_000_000)),
        ("SELECT ''", ("",)),
        ("SELECT ' '", (" ",)),
        ("SELECT null::text", (None,)),
        ("SELECT count(*) FROM flights WHERE 1 = 0", (0,)),
        ("SELECT 'NaN'::float8 > 1e308", (True,)),
    ],
)
async def test_values(store: PgStore, text: str, row: Row) -> None:
    assert await run(store, await gate(store, text)) == [row]


async def test_parameters_reach_the_database_as_values(store: PgStore) -> None:
    values = ("it's \\ $1 -- \n\"", 5, 2.5, Decimal("1.50"), True, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    plan = await gate(store, "SELECT $1, $2, $3, $4, $5, $6", *values)
    ((text, *numbers),) = await run(store, plan)
    assert text == values[0]
    assert numbers == [5, 2.5, Decimal("1.50"), True, 1_000_000]


async def test_policies_hold_in_sql(store: PgStore, flights_frames: FlightsFrames) -> None:
    dataset = flights(policies=[RowPolicy("own", "flights.carrier = {attributes.carrier}", ("flights",))])
    principal = Principal("eve", "acme", attributes={"carrier": "UA"})
    for text in (
        "SELECT DISTINCT carrier FROM flights",
        "WITH a AS (SELECT * FROM flights) SELECT DISTINCT a.carrier FROM a WHERE EXISTS (SELECT 1 FROM flights)",
        "SELECT carrier FROM flights UNION SELECT (SELECT max(carrier) FROM flights)",
        "SELECT DISTINCT b.carrier FROM flights a RIGHT JOIN flights b ON false OR a.carrier <> 'UA'",
    ):
        plan = await store.gate(SqlQuery(text), (dataset,), principal)
        assert await run(store, plan) == [("UA",)], text
        assert flights_frames.flights["carrier"].n_unique() > 1


@pytest.mark.parametrize(
    ("predicate", "tables"),
    [
        ("airlines.name = {attributes.airline}", ("airlines",)),
        ("lower(upper(lower(airlines.name))) = lower({attributes.airline})", ("airlines",)),
        ("flights.carrier = {attributes.carrier}", ("flights",)),
    ],
)
async def test_no_condition_is_met_by_rows_that_the_caller_may_not_see(
    store: PgStore, predicate: str, tables: tuple[str, ...]
) -> None:
    """Its errors would tell what is in them, one bit at a time."""
    dataset = flights(policies=[RowPolicy("own", predicate, tables)])
    principal = Principal("eve", "acme", attributes={"airline": "JetBlue Airways", "carrier": "B6"})
    for text in (
        "SELECT count(*) > 0 FROM flights WHERE (CASE WHEN carrier = 'UA' THEN 'x' ELSE '1' END)::int = 1",
        "SELECT count(*) > 0 FROM (SELECT carrier FROM flights) f WHERE carrier <> 'UA' OR ('x' || carrier)::int = 1",
    ):
        plan = await store.gate(SqlQuery(text), (dataset,), principal)
        assert await run(store, plan) == [(True,)], text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SELECT sum(carrier) FROM flights", "SQL_REJECTED"),
        ("SELECT carrier, count(*) FROM flights", "SQL_REJECTED"),
        ("SELECT carrier FROM flights GROUP BY 7", "SQL_REJECTED"),
        ("SELECT 'x'::int", "SQL_REJECTED"),
        ("SELECT a.carrier FROM flights a JOIN flights b ON a.month = b.late", "SQL_REJECTED"),
        ("SELECT carrier FROM flights a, flights b", "SQL_REJECTED"),
        ("SELECT time_hour AT TIME ZONE 'UTC' FROM flights", "SQL_TYPE"),
        ("SELECT interval '1 day'", "SQL_TYPE"),
        ("SELECT (1, 2)", "SQL_TYPE"),
        ("SELECT 1 AS a, 2 AS a", "SQL_COLUMN"),
        ("SELECT FROM flights", "SQL_COLUMN"),
    ],
)
async def test_what_only_the_database_knows(store: PgStore, text: str, code: str) -> None:
    with pytest.raises(BrokerError) as caught:
        await gate(store, text)
    assert caught.value.reason is ErrorReason.INVALID_REQUEST
    assert {v.code for v in caught.value.violations} == {code}
    assert "public." not in str(caught.value.violations)


async def test_an_error_while_running_is_told_without_its_text(store: PgStore) -> None:
    plan = await gate(store, "SELECT cast(carrier AS int) AS number FROM flights")
    with pytest.raises(BrokerError) as caught:
        await run(store, plan)
    assert caught.value.reason is ErrorReason.STORE_REJECTED
    assert caught.value.metadata["sqlstate"] == "22P02"
    carriers = {"UA", "AA", "B6"}
    assert not carriers & set(caught.value.message.replace('"', " ").split())


async def test_more_rows_than_allowed_is_an_error_never_a_short_answer(
    flights_dsn: str, make_store: MakeStore
) -> None:
    store = await make_store(flights_dsn, limits=ReadLimits(sql_rows=100))
    assert len(await run(store, await gate(store, "SELECT carrier FROM flights LIMIT 100"))) == 100
    plan = await gate(store, "SELECT carrier FROM flights")
    with pytest.raises(BrokerError) as caught:
        await run(store, plan)
    assert caught.value.reason is ErrorReason.RESULT_TOO_LARGE


async def test_off_unless_enabled(flights_dsn: str, make_store: MakeStore) -> None:
    store = await make_store(flights_dsn, gate=None)
    with pytest.raises(BrokerError) as caught:
        await gate(store, "SELECT 1")
    assert caught.value.reason is ErrorReason.SQL_DISABLED


async def test_equal_statements_have_equal_fingerprints(store: PgStore) -> None:
    first = await gate(store, "SELECT carrier FROM flights WHERE month = $1", 1)
    again = await gate(store, "select  CARRIER from flights /* x */ where month = $1", 1)
    other = await gate(store, "SELECT carrier FROM flights WHERE month = $1", 2)
    assert first.fingerprint == again.fingerprint != other.fingerprint


async def test_long_statements_are_read_in_a_thread(store: PgStore) -> None:
    text = " UNION ALL ".join(f"SELECT {i} AS n, carrier FROM flights WHERE month = {i}" for i in range(12))
    plan = await gate(store, f"SELECT n, count(*) FROM ({text} {' ' * 1_000}) AS t GROUP BY n ORDER BY n")
    assert [row[0] for row in await run(store, plan)] == list(range(1, 12))
