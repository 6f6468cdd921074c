"""The Python client over real channels, synchronous and not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid
from broker.domain.job import JobFailure, JobState
from broker.domain.query import Query
from broker.domain.request import (
    CallContext,
    DashboardAsk,
    DashboardOutcome,
    ExploreAsk,
    ExploreEvent,
    ExploreHeader,
    PanelOutcome,
)
from querybroker import ChecksumError, Client, QueryBrokerError, SyncClient, policy, query
from querybroker.result import decode_column
from querybroker.v1 import answer_pb2, query_service_pb2
from tests.rpc.fakes import COUNT, KEY, NOON, answer
from tests.rpc.serving import KEYED, Serving

QUERY = query("flights", measures="flights")
DATA = bytes(range(256)) * 20


async def test_one_query_is_asked_and_answered(broker: Serving) -> None:
    async with Client(broker.address, api_key=KEY) as client:
        result = await client.ask(QUERY, policy=policy(max_staleness=5), timeout=7)
    assert result.columns == ["flights"]
    assert result.rows() == [(0,), (1,), (2,)]
    assert list(result) == [{"flights": 0}, {"flights": 1}, {"flights": 2}]
    assert result.status.kind == answer_pb2.ANSWER_KIND_LIVE
    assert "LIVE" in repr(result)
    (context,) = broker.queries.contexts
    assert context.principal == KEYED
    assert result.status.request_id == context.request_id
    (ask,) = broker.queries.asks
    assert isinstance(ask, DashboardAsk)
    assert (ask.panels[0].query, ask.panels[0].policy.max_staleness) == (Query("flights", ("flights",)), 5)


async def test_a_failed_panel_raises_when_it_is_asked_for(broker: Serving) -> None:
    async def half(_context: CallContext, _ask: DashboardAsk) -> DashboardOutcome:
        bad = invalid([Violation("panels[1].query.measures[0]", "no such measure", "UNKNOWN_MEMBER")])
        return DashboardOutcome((PanelOutcome("good", answer(2)), PanelOutcome("bad", bad)), NOON)

    broker.queries.on_dashboard = half
    async with Client(broker.address) as client:
        board = await client.dashboard({"good": QUERY, "bad": query_service_pb2.Panel(query=QUERY)})
    assert list(board) == ["good", "bad"]
    assert len(board["good"]) == 2
    assert board.snapshot_time == NOON
    assert list(board.errors) == ["bad"]
    with pytest.raises(QueryBrokerError, match="no such measure") as caught:
        board["bad"]
    (violation,) = caught.value.violations
    assert (violation.field, violation.code) == ("panels[1].query.measures[0]", "UNKNOWN_MEMBER")


async def test_an_error_of_a_call_tells_reason_and_hint(broker: Serving) -> None:
    async def fail(_context: CallContext, _ask: DashboardAsk) -> DashboardOutcome:
        raise BrokerError(
            ErrorReason.TENANT_QUOTA, "Over quota.", retry_after=4.0, metadata={"tenant": "acme"}
        )

    broker.queries.on_dashboard = fail
    async with Client(broker.address) as client:
        with pytest.raises(QueryBrokerError) as caught:
            await client.ask(QUERY)
    error = caught.value
    assert (error.code, error.reason, error.retry_after) == ("RESOURCE_EXHAUSTED", "TENANT_QUOTA", 4.0)
    assert error.metadata == {"tenant": "acme"}
    assert error.request_id == broker.queries.contexts[0].request_id
    assert not error.retryable
    assert len(broker.queries.contexts) == 1


async def test_a_full_server_is_tried_again_as_it_says(broker: Serving) -> None:
    async def full_twice(context: CallContext, _ask: DashboardAsk) -> DashboardOutcome:
        if context.attempt < 2:
            raise BrokerError(ErrorReason.OVERLOADED, "Full.", retry_after=0.01)
        return DashboardOutcome((PanelOutcome("only", answer(1)),))

    broker.queries.on_dashboard = full_twice
    async with Client(broker.address) as client:
        assert len(await client.ask(QUERY)) == 1
    assert [context.attempt for context in broker.queries.contexts] == [0, 1, 2]
    assert len({context.request_id for context in broker.queries.contexts}) == 1


async def test_a_broker_that_is_not_there_is_unavailable() -> None:
    async with Client("127.0.0.1:1", timeout=20) as client:
        with pytest.raises(QueryBrokerError) as caught:
            await client.datasets()
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "")


async def test_a_stream_is_read_batch_by_batch(broker: Serving) -> None:
    async with Client(broker.address) as client, client.explore(QUERY) as stream:
        assert [column.name for column in stream.schema] == ["flights"]
        assert stream.status is None
        batches = [batch async for batch in stream]
        assert [(batch.first_row, batch.rows()) for batch in batches] == [
            (0, [(0,), (1,)]),
            (2, [(2,), (3,)]),
        ]
        assert stream.status is not None


async def test_a_stream_is_collected(broker: Serving) -> None:
    async with Client(broker.address) as client:
        result = await client.explore(QUERY).collect()
    assert result.column("flights") == [0, 1, 2, 3]
    assert result.to_polars().get_column("flights").to_list() == [0, 1, 2, 3]
    assert list(result.to_pandas()["flights"]) == [0, 1, 2, 3]


async def test_a_stream_without_its_status_is_incomplete(broker: Serving) -> None:
    async def short(_context: CallContext, _ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        yield ExploreHeader((COUNT,), NOON)

    broker.queries.on_explore = short
    async with Client(broker.address) as client:
        with pytest.raises(QueryBrokerError, match="rows are missing"):
            await client.explore(QUERY).collect()


async def test_leaving_a_stream_stops_the_work(broker: Serving) -> None:
    ended = asyncio.Event()

    async def endless(_context: CallContext, _ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        try:
            yield ExploreHeader((COUNT,), NOON)
            await asyncio.Event().wait()
        finally:
            ended.set()

    broker.queries.on_explore = endless
    async with Client(broker.address) as client:
        async with client.explore(QUERY) as stream:
            assert stream.header is not None
        await ended.wait()


async def test_datasets_and_explanations(broker: Serving) -> None:
    async with Client(broker.address) as client:
        assert [d.name for d in await client.datasets()][:2] == ["datasets/airports", "datasets/flights"]
        assert (await client.dataset("flights")).measures[0].name == "flights"
        explained = await client.explain(QUERY, kind="dashboard")
    assert explained.classification.pool == "dashboard"


async def test_a_job_is_submitted_watched_and_read(broker: Serving, tmp_path: Path) -> None:
    async with Client(broker.address) as client:
        job = await client.jobs.submit(QUERY, format="csv", labels={"team": "ops"})
        seen: list[int] = []
        states = client.jobs.watch(job.name)
        seen.append((await anext(states)).state)
        await broker.jobs.change("job001", state=JobState.RUNNING)
        seen.append((await anext(states)).state)
        await broker.jobs.succeed("job001", DATA)
        seen += [state.state async for state in states]
        assert seen == [1, 2, 3]
        broker.jobs.break_after = 2_500
        path = await client.jobs.download(job.name, tmp_path / "flights.csv")
        assert path.read_bytes() == DATA
        assert broker.jobs.reads == [0, 3_000]
        assert not (tmp_path / "flights.csv.part").exists()
        assert [j.name async for j in client.jobs.list(states=["succeeded"])] == [job.name]
        assert (await client.jobs.wait(job.name)).state == 3


async def test_a_watch_goes_on_where_it_broke(broker: Serving) -> None:
    async with Client(broker.address) as client:
        job = await client.jobs.submit(QUERY)
        broker.jobs.break_watch = True
        states = client.jobs.watch(job.name)
        assert (await anext(states)).revision == 1
        following = asyncio.ensure_future(anext(states))
        await broker.jobs.change("job001", state=JobState.CANCELLED)
        assert (await following).revision == 2
        assert [state async for state in states] == []
    assert broker.jobs.watches == [0, 1]


async def test_a_submission_is_repeated_with_its_request_id(broker: Serving) -> None:
    broker.jobs.submits_to_fail = 2
    async with Client(broker.address) as client:
        job = await client.jobs.submit(QUERY)
    assert {ask.request_id for ask in broker.jobs.asks} == {job.request_id}
    assert len(broker.jobs.asks) == 3


async def test_bytes_that_were_changed_are_noticed(broker: Serving, tmp_path: Path) -> None:
    async with Client(broker.address) as client:
        job = await client.jobs.submit(QUERY)
        await broker.jobs.succeed("job001", DATA)
        broker.jobs.data["job001"] = DATA[:-1] + b"!"
        with pytest.raises(ChecksumError, match=r"flights\.csv"):
            await client.jobs.download(job.name, tmp_path / "flights.csv")
        assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []


async def test_waiting_for_a_job_that_fails_raises_its_error(broker: Serving) -> None:
    async with Client(broker.address) as client:
        job = await client.jobs.submit(QUERY)
        failure = JobFailure("STORE_REJECTED", "No such column.", {"sqlstate": "42703"})
        await broker.jobs.change("job001", state=JobState.FAILED, failure=failure)
        with pytest.raises(QueryBrokerError, match="No such column") as caught:
            await client.jobs.wait(job.name)
        assert caught.value.metadata == {"sqlstate": "42703"}


async def test_the_synchronous_client_does_the_same(broker: Serving, tmp_path: Path) -> None:
    def work() -> dict[str, Any]:
        with SyncClient(broker.address, api_key=KEY) as client:
            result = client.ask(QUERY)
            with client.explore(QUERY) as stream:
                rows = [batch.rows() for batch in stream]
            collected = client.explore(QUERY).collect()
            job = client.jobs.submit(QUERY, format="csv")
            asyncio.run_coroutine_threadsafe(broker.jobs.succeed("job001", DATA), loop).result()
            states = [state.state for state in client.jobs.watch(job.name)]
            with pytest.raises(IsADirectoryError, match="a file in it"):
                client.jobs.download(job.name, tmp_path)
            path = client.jobs.download(job.name, tmp_path / "sync.csv")
            with pytest.raises(QueryBrokerError) as missing:
                client.jobs.get("tenants/acme/jobs/none")
            return {
                "rows": result.rows(),
                "stream": rows,
                "collected": len(collected),
                "states": states,
                "data": path.read_bytes() == DATA,
                "missing": missing.value.reason,
                "datasets": len(client.datasets()),
                "dataset": client.dataset("flights").name,
                "pool": client.explain(QUERY).classification.pool,
                "jobs": [j.name for j in client.jobs.list()],
                "board": list(client.dashboard({"a": QUERY, "b": QUERY})),
            }

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(work) == {
        "rows": [(0,), (1,), (2,)],
        "stream": [[(0,), (1,)], [(2,), (3,)]],
        "collected": 4,
        "states": [3],
        "data": True,
        "missing": "JOB_NOT_FOUND",
        "datasets": 4,
        "dataset": "datasets/flights",
        "pool": "dashboard",
        "jobs": ["tenants/acme/jobs/job001"],
        "board": ["a", "b"],
    }


def test_importing_the_package_or_its_messages_does_not_import_grpc() -> None:
    code = (
        "import sys, querybroker, querybroker.v1.answer_pb2; assert 'grpc' not in sys.modules; "
        "querybroker.query; assert 'grpc' not in sys.modules; "
        "assert set(querybroker.__all__) <= set(dir(querybroker)); "
        "[getattr(querybroker, name) for name in querybroker.__all__]; assert 'polars' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_typed_columns_become_values_with_nulls() -> None:
    column = answer_pb2.Column
    strings = answer_pb2.StringValues(dictionary=["UA", "AA"], indices=[1, 0, 0, 1, 0, 0, 0, 0, 1])
    assert decode_column(column(validity=b"\xfd\x01", string_values=strings), 9) == [
        "AA", None, "UA", "AA", "UA", "UA", "UA", "UA", "AA",
    ]  # fmt: skip
    decimals = answer_pb2.DecimalValues(values=["-12.50", ""])
    assert decode_column(column(validity=b"\x01", decimal_values=decimals), 2) == [Decimal("-12.50"), None]
    instants = answer_pb2.TimestampValues(unix_micros=[-1, 0])
    assert decode_column(column(timestamp_values=instants), 2, "America/New_York") == [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
    ]
    days = answer_pb2.DateValues(unix_days=[-1, 15_706])
    assert decode_column(column(date_values=days), 2) == [date(1969, 12, 31), date(2013, 1, 1)]
    assert decode_column(column(bool_values=answer_pb2.BoolValues(values=[True, False])), 2) == [True, False]
    assert decode_column(column(), 2) == [None, None]
