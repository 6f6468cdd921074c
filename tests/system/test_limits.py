"""Deadlines, sizes and panels: what is too much is refused, each panel for itself, and the rest is answered."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable

import grpc
import pytest

from querybroker import QueryBrokerError, query
from querybroker.v1 import query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import Connection
from tests.system.conftest import dashboard
from tests.system.secured import LOCK, Secured, as_caller

COUNT = query("sales", measures=["sales"])
ALLOWED = query("allowed", dimensions=["note"])


@pytest.mark.parametrize(("seconds", "least", "most"), [(None, 3.0, 5.0), (3_600, 15.0, 20.0), (9, 7.0, 9.1)])
async def test_postgresql_is_told_what_is_left_of_the_default_the_cap_or_the_callers_own_deadline(
    secured: Secured, seconds: float | None, least: float, most: float
) -> None:
    async with secured.plain() as channel:
        # Two panels, so that they are read in a transaction, whose time limit the dataset shows.
        request = dashboard(ALLOWED, COUNT)
        call = QueryServiceStub(channel).Dashboard(request, timeout=seconds, metadata=as_caller("boss"))
        (shown,) = (await call).panels[0].table.columns.columns[0].string_values.dictionary
    value, unit = (shown[:-2], 1e-3) if shown.endswith("ms") else (shown[:-1], 1.0)
    assert least < float(value) * unit <= most, shown


async def test_what_is_known_to_take_longer_is_refused_at_once_and_what_is_not_known_is_tried(
    secured: Secured,
) -> None:
    tired = query("tired", dimensions=["note"])
    async with secured.client("boss") as client:
        with pytest.raises(QueryBrokerError) as caught:
            await client.ask(tired, timeout=0.7)
        assert (caught.value.code, caught.value.reason) != ("DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT")
        await client.ask(tired, timeout=20)
        with pytest.raises(QueryBrokerError) as caught:
            await client.ask(tired, timeout=0.7)
        assert (caught.value.code, caught.value.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT")


async def test_panels_fail_alone_and_the_others_come_from_one_snapshot(secured: Secured) -> None:
    panels = {
        "sales": COUNT,
        "wrong": query("sales", measures=["profit"], limit=3),
        "zero": query("sales", measures=["sales"], dimensions=["odds"]),
        "rows": query("sales", dimensions=["id"]),
        "bytes": query("sales", dimensions=["id", "note"], limit=14_000),
        "unknown": query("nothing", measures=["sales"]),
        "notes": query("sales", measures=["notes"], dimensions=["region"]),
    }
    async with secured.client("boss") as client:
        answers = await client.dashboard(panels)
    failing = {
        "wrong": ("INVALID_REQUEST", ""),
        "zero": ("STORE_REJECTED", ""),
        "rows": ("RESULT_TOO_LARGE", "max_rows"),
        "bytes": ("RESULT_TOO_LARGE", "max_bytes"),
        "unknown": ("DATASET_NOT_FOUND", ""),
    }
    for name, (reason, limit) in failing.items():
        with pytest.raises(QueryBrokerError) as caught:
            answers[name]
        assert (caught.value.reason, caught.value.metadata.get("limit", "")) == (reason, limit)
        assert caught.value.request_id == answers.request_id
    assert list(answers["sales"]) == [{"sales": 20_000}]
    assert len(answers["notes"]) == 5
    assert answers["sales"].status.as_of == answers["notes"].status.as_of


async def test_panels_share_a_snapshot_though_rows_are_written_between_them(
    secured: Secured, beside: Connection
) -> None:
    await beside.execute(f"SELECT pg_advisory_lock({LOCK})")
    rows = query("ledger", measures=["entries"])
    async with secured.client("boss") as client:
        panels = {"before": rows, "locked": query("locked", dimensions=["note"]), "after": rows}
        call = asyncio.create_task(client.dashboard(panels, timeout=20))

        async def waiting() -> bool:
            text = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
            return bool(await beside.fetchval(text, LOCK))

        await eventually(waiting, "the second panel waits, the first has been read")
        await beside.execute("INSERT INTO ledger SELECT i, 0 FROM generate_series(100, 104) AS i")
        await beside.execute(f"SELECT pg_advisory_unlock({LOCK})")
        answers = await call
        assert (list(answers["before"]), list(answers["after"])) == ([{"entries": 10}], [{"entries": 10}])
        assert list(await client.ask(rows)) == [{"entries": 15}]
    await beside.execute("DELETE FROM ledger WHERE id >= 100")


async def test_sixty_four_panels_are_answered_and_one_more_is_not(secured: Secured) -> None:
    panels = {str(i): query("sales", measures=["sales"], where={"amount": i}) for i in range(65)}
    async with secured.client("boss") as client:
        with pytest.raises(QueryBrokerError) as caught:
            await client.dashboard(panels)
        assert [violation.field for violation in caught.value.violations] == ["panels"]
        del panels["64"]
        answers = await client.dashboard(panels)
        assert [answers[name].column("sales") for name in panels] == [[200]] * 64


async def test_equal_request_ids_in_flight_are_different_calls(secured: Secured) -> None:
    request = query_service_pb2.DashboardRequest(request_id=str(uuid.uuid4()))
    request.panels.add().query.CopyFrom(query("sales", measures=["notes"], dimensions=["region"]))
    async with secured.plain() as channel:
        stub = QueryServiceStub(channel)
        calls = [stub.Dashboard(request, timeout=20, metadata=as_caller("boss")) for _ in range(12)]
        responses = [await call for call in calls]
    assert {response.request_id for response in responses} == {request.request_id}
    assert [response.panels[0].table.row_count for response in responses] == [5] * 12


@pytest.mark.parametrize(("name", "limit"), [("max_row_count", 150), ("max_byte_count", 20_000)])
@pytest.mark.parametrize("dimensions", [["id", "note"], ["id", "amount"]])
async def test_an_exploration_ends_at_the_callers_own_limits(
    secured: Secured, name: str, limit: int, dimensions: list[str]
) -> None:
    request = query_service_pb2.ExploreRequest(query=query("sales", dimensions=dimensions))
    setattr(request, name, limit)
    events = rows = 0

    async def read(call: AsyncIterable[query_service_pb2.ExploreResponse]) -> None:
        nonlocal events, rows
        async for event in call:
            events, rows = events + 1, rows + event.batch.row_count

    async with secured.plain() as channel:
        call = QueryServiceStub(channel).Explore(request, timeout=20, metadata=as_caller("boss"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read(call)
    error = QueryBrokerError.from_rpc_error(caught.value)
    assert (error.reason, error.metadata["limit"]) == ("RESULT_TOO_LARGE", name)
    assert (events > 0, rows <= 150) == (True, True), "the header came, and no more rows than allowed"


async def test_an_exploration_within_its_limits_is_complete(secured: Secured) -> None:
    async with secured.client("boss") as client:
        within = query("sales", dimensions=["id"], order_by="id", limit=150)
        async with client.explore(within, max_rows=150, max_bytes=1 << 20) as stream:
            assert (await stream.collect()).column("id") == list(range(1, 151))
