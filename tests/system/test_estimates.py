"""Estimates from a running broker: of a database that answers, and of one that has gone away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import asyncpg
import grpc.aio
import pytest

from broker.demo.embedded import EmbeddedPostgres
from querybroker.v1 import answer_pb2, policy_pb2, query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import run_sync, temporary_server
from tests.support.samples import make_events
from tests.support.server import RunningBroker, running_broker

ROWS = 150_000
MODEL = """
datasets:
  events:
    table: public.events
    default_time: at
    sample: {blocks: 600, every: 1h}
    dimensions:
      at: {type: timestamp, time: true}
      kind: int64
    measures:
      events: count
      pieces: {kind: sum, column: quantity, type: int64}
"""
ESTIMATE, LIVE = answer_pb2.ANSWER_KIND_ESTIMATE, answer_pb2.ANSWER_KIND_LIVE


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of the test's own, which it may stop."""
    with temporary_server(random_page_cost="0.2") as postgres:

        async def make() -> None:
            connection = await asyncpg.connect(postgres.dsn("postgres"))
            await make_events(connection, ROWS)
            await connection.close()

        run_sync(make())
        yield postgres


@pytest.fixture
def broker(server: EmbeddedPostgres, tmp_path: Path) -> Iterator[RunningBroker]:
    """A broker that keeps a sample of the events."""
    config = tmp_path / "model.yaml"
    config.write_text(MODEL, encoding="utf-8")
    with running_broker(server.dsn("postgres"), tmp_path / "broker", config=config) as running:
        yield running


async def ask(
    channel: grpc.aio.Channel, *kinds: answer_pb2.AnswerKind.ValueType
) -> query_service_pb2.PanelAnswer:
    """The number of events, as an answer of one of the kinds."""
    query = query_pb2.Query(dataset="events", measures=["events", "pieces"])
    policy = policy_pb2.AnswerPolicy(accepted_kinds=kinds)
    panel = query_service_pb2.Panel(query=query)
    request = query_service_pb2.DashboardRequest(panels=[panel], policy=policy)
    response = await QueryServiceStub(channel).Dashboard(request, timeout=20)
    (found,) = response.panels
    return found


async def answers(channel: grpc.aio.Channel) -> bool:
    """Whether there is an estimate."""
    try:
        await ask(channel, ESTIMATE)
    except grpc.aio.AioRpcError:
        return False
    return True


async def kept_in(folder: Path) -> bool:
    """Whether a sample is in the directory of a broker."""
    return await asyncio.to_thread(lambda: any(folder.glob("*.sample.json")))


async def test_an_estimate_is_given_to_those_who_ask_for_one(
    broker: RunningBroker, server: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with grpc.aio.insecure_channel(broker.address) as channel:
        answer = await ask(channel, ESTIMATE)
        status = answer.status
        assert (status.kind, status.exactness) == (ESTIMATE, answer_pb2.EXACTNESS_ESTIMATED)
        assert not status.degraded  # it is what was asked for
        assert [(b.measure, b.lower_column, b.upper_column) for b in status.bounds] == [
            (name, f"{name}__lower", f"{name}__upper") for name in ("events", "pieces")
        ]
        names = [column.name for column in answer.table.schema]
        assert names == [
            "events",
            "pieces",
            "events__lower",
            "events__upper",
            "pieces__lower",
            "pieces__upper",
        ]
        low, high = (answer.table.columns.columns[i].double_values.values[0] for i in (2, 3))
        assert 0.9 * ROWS < low < high < 1.1 * ROWS  # whether they hold it is a matter of chance
        exact = await ask(channel, LIVE, ESTIMATE)
        assert exact.status.kind == LIVE

        mirror = tmp_path / "broker" / "mirror"
        await eventually(partial(kept_in, mirror), "a sample is kept")
        await asyncio.to_thread(server.stop)
        await eventually(
            partial(answers, channel), "the sample is known"
        )  # its file is there a moment before
        kept = await ask(channel, LIVE, ESTIMATE)
        assert (kept.status.kind, kept.status.degraded) == (ESTIMATE, True)
        assert [part.source_name for part in kept.status.parts] == ["kept sample"]
        assert kept.status.ladder[-1].verdict == answer_pb2.LADDER_VERDICT_ANSWERED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel, LIVE)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
