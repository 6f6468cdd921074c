"""Explorations in SQL as callers meet them: what runs, what is refused and why, and what ends when they leave."""

from __future__ import annotations

import asyncio

import pytest

from querybroker import Client, QueryBrokerError, Result, policy, sql
from querybroker.values import Scalar
from tests.support.eventually import eventually
from tests.support.pg import Connection
from tests.system.conftest import System
from tests.system.secured import Secured


async def ask(client: Client, text: str, *parameters: Scalar, **terms: object) -> Result:
    async with client, client.explore(sql(text, *parameters), **terms) as stream:  # type: ignore[arg-type] # terms
        return await stream.collect()


@pytest.mark.parametrize(("name", "count"), [("alice", 15_000), ("bob", 5_000), ("boss", 20_000)])
async def test_every_mention_of_a_dataset_stands_for_the_rows_that_the_caller_may_see(
    secured: Secured, name: str, count: int
) -> None:
    text = "SELECT count(*) AS n FROM sales WHERE tenant = 'globex' OR tenant <> 'globex'"
    assert list(await ask(secured.client(name), text)) == [{"n": count}]
    text = "WITH a AS (SELECT id FROM sales) SELECT count(*) AS n FROM sales s JOIN a ON a.id = s.id"
    assert list(await ask(secured.client(name), text)) == [{"n": count}]


async def test_parameters_are_values_and_functions_are_those_that_the_operator_allows(
    secured: Secured,
) -> None:
    text = "SELECT region, twice(max(amount)) AS most FROM sales WHERE amount < $1 AND region = $2 GROUP BY region"
    for encoding in ("columns", "arrow"):
        result = await ask(secured.client("alice"), text, 50, "region-1' OR 'a' = 'a", format=encoding)
        assert (list(result), result.columns) == ([], ["region", "most"])
        result = await ask(secured.client("alice"), text, 50, "region-1", format=encoding)
        assert list(result) == [{"region": "region-1", "most": 92}]


REFUSED = [
    ("", [], ["sql.text"]),
    ("SELECT 1; DROP TABLE sales", [], ["sql.text"]),
    ("DELETE FROM sales", [], ["sql.text"]),
    ("SELECT id FROM ledger", [], ["sql.text"]),  # alice lacks its grant
    ("SELECT pg_sleep(1), lower(id) FROM sales, pg_class", [], ["sql.text"] * 2),
    ("SELECT pg_sleep(1), twice(colour) FROM sales", [], ["sql.text"] * 2),
    ("SELECT id FROM sales WHERE amount = $1 AND id = $3", [1, 2], ["sql.text", "sql.parameters[1]"]),
    ("SELECT id, id FROM sales", [], ["sql.text"]),
    ("SELECT amount + region AS x FROM sales", [], ["sql.text"]),  # only PostgreSQL knows the types
]


@pytest.mark.parametrize(("text", "parameters", "fields"), REFUSED)
async def test_a_statement_that_does_not_pass_is_refused_with_every_violation_at_its_place(
    secured: Secured, text: str, parameters: list[Scalar], fields: list[str]
) -> None:
    with pytest.raises(QueryBrokerError) as caught:
        await ask(secured.client("alice"), text, *parameters)
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert [violation.field for violation in caught.value.violations] == fields
    async with secured.client("alice") as client:
        with pytest.raises(QueryBrokerError) as caught:
            await client.jobs.submit(sql(text, *parameters), validate_only=True)
    assert [violation.field for violation in caught.value.violations] == [f"spec.export.{f}" for f in fields]


@pytest.mark.parametrize(
    ("name", "text", "terms", "reason"),
    [
        ("andy", "SELECT 1", {}, "PERMISSION_DENIED"),
        ("", "SELECT 1", {}, "PERMISSION_DENIED"),
        ("alice", "SELECT odds FROM sales", {}, "STORE_REJECTED"),
        ("alice", "SELECT note::int FROM sales", {}, "STORE_REJECTED"),
        ("alice", "SELECT id FROM sales", {"max_rows": 100}, "RESULT_TOO_LARGE"),
        ("alice", "SELECT id, note FROM sales", {"max_bytes": 10_000}, "RESULT_TOO_LARGE"),
        ("alice", "SELECT 1", {"policy": policy(rollup="require")}, "POLICY_UNSATISFIABLE"),
    ],
)
async def test_what_else_is_refused(
    secured: Secured, name: str, text: str, terms: dict[str, object], reason: str
) -> None:
    with pytest.raises(QueryBrokerError) as caught:
        await ask(secured.client(name), text, **terms)
    assert caught.value.reason == reason
    assert "c4ca4238" not in caught.value.message, "values of rows are not for errors"


async def test_a_server_that_does_not_enable_sql_says_so(system: System) -> None:
    with pytest.raises(QueryBrokerError) as caught:
        await ask(Client(system.broker.address), "SELECT 1")
    assert caught.value.reason == "SQL_DISABLED"


async def test_an_explanation_shows_the_statement_to_those_who_may_see_it(secured: Secured) -> None:
    shown = {}
    for name in ("alice", "boss"):
        async with secured.client(name) as client:
            explanation = await client.explain(sql("SELECT count(*) AS n FROM sales"))
            assert [column.name for column in explanation.schema] == ["n"]
            shown[name] = list(explanation.statements)
    assert shown["alice"] == []
    assert "FROM public.sales" in shown["boss"][0]


async def test_a_caller_who_leaves_takes_the_statement_along(secured: Secured, beside: Connection) -> None:
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY%public.asleep%'"
    )

    async def count(wanted: int) -> bool:
        return bool(await beside.fetchval(running) == wanted)

    call = asyncio.create_task(ask(secured.client("alice"), "SELECT note FROM asleep"))
    await eventually(lambda: count(1), "the statement runs")
    call.cancel()
    await eventually(lambda: count(0), "the statement has ended")
