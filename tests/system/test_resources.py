"""What the broker holds: little for a slow reader, however much there is, and nothing after thousands of calls."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc.aio
import psutil

from querybroker import Client, QueryBrokerError, query, sql
from querybroker.v1 import admin_service_pb2, query_pb2, query_service_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import Connection
from tests.system.secured import Secured, as_caller

MIB = 1 << 20
SLACK = 64 * MIB
"""How much a process may grow: far less than it is made to move, and more than allocators keep."""
ENDLESS = "SELECT a.id, a.note FROM sales a CROSS JOIN sales b"
MANY = 2 * SLACK // 130
"""Rows of that statement, of 130 bytes each, that are more than any process may keep."""
CALLS = 2_000


@dataclass(frozen=True)
class Held:
    """What the processes of a broker hold."""

    resident: int
    processes: int
    descriptors: int
    connections: int
    busy: int


async def held(secured: Secured, channel: grpc.aio.Channel) -> Held:
    request = admin_service_pb2.GetStateRequest()
    state = (await AdminServiceStub(channel).GetState(request, metadata=as_caller("boss"))).state
    family = [psutil.Process(secured.broker.process.pid), *secured.broker.workers()]
    connections = sum(pool.connection_count for pool in state.pools)
    return Held(
        resident=max(process.memory_info().rss for process in family),
        processes=len(family),
        descriptors=family[0].num_fds() - connections,
        connections=connections,
        busy=sum(pool.seats_used + pool.queue_length + pool.worker_task_count for pool in state.pools),
    )


async def waits(connection: Connection) -> str | None:
    """What the endless statement waits for; None when it does not run."""
    text = "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY%JOIN%'"
    found: str | None = await connection.fetchval(text)
    return found


async def test_a_slow_reader_holds_back_postgresql_and_nobody_keeps_what_it_does_not_read(
    secured: Secured, beside: Connection
) -> None:
    async with secured.plain() as channel:
        before = await held(secured, channel)
        request = query_service_pb2.ExploreRequest(sql=query_pb2.SqlQuery(text=ENDLESS))
        call = QueryServiceStub(channel).Explore(request, timeout=60, metadata=as_caller("boss"))
        rows = 0
        async for event in call:
            rows += event.batch.row_count
            if rows > MANY:
                break

        async def held_back() -> bool:
            return await waits(beside) == "ClientWrite"

        await eventually(held_back, "PostgreSQL waits for the reader")
        during = await held(secured, channel)
        assert during.resident < before.resident + SLACK
        assert during.busy >= 1
        call.cancel()

        async def gone() -> bool:
            return await waits(beside) is None and (await held(secured, channel)).busy == 0

        await eventually(gone, "the statement has ended and the seat is free")


async def explored(client: Client, question: query_pb2.Query | query_pb2.SqlQuery) -> None:
    async with client.explore(question) as stream:
        await stream.collect()


def kinds(client: Client, rng: random.Random) -> dict[str, Callable[[], Awaitable[object]]]:
    """A call of every kind, by name; those that end with an error have its reason for a name."""
    some = {"amount": rng.randrange(100)}
    count = query("sales", measures=["sales"], where=some)
    groups = query("sales", measures=["notes"], dimensions=["region"], where=some)
    broken = query("sales", measures=["sales"], dimensions=["odds"])
    return {
        "dashboard": lambda: client.ask(count),
        "panels": lambda: client.dashboard({"a": count, "b": groups, "c": broken}),
        "explore": lambda: explored(client, query("sales", dimensions=["id", "note"], where=some)),
        "limited": lambda: explored(client, query("sales", dimensions=["id"], limit=7, where=some)),
        "sql": lambda: explored(client, sql("SELECT id FROM sales WHERE amount = $1", some["amount"])),
        "explain": lambda: client.explain(groups),
        "datasets": client.datasets,
        "jobs": lambda: client.jobs.submit(count, validate_only=True),
        "STORE_REJECTED": lambda: client.ask(broken),
        "INVALID_REQUEST": lambda: client.ask(query("sales", measures=["profit"])),
        "DATASET_NOT_FOUND": lambda: client.ask(query("nothing", measures=["sales"])),
        "RESULT_TOO_LARGE": lambda: client.ask(query("sales", dimensions=["id"])),
    }


async def test_two_thousand_mixed_calls_leave_nothing_behind(
    secured: Secured, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    rng = random.Random(seed)
    outcomes: Counter[tuple[str, str]] = Counter()

    async def one(client: Client) -> None:
        name, call = rng.choice(list(kinds(client, rng).items()))
        try:
            await call()
        except QueryBrokerError as error:
            outcomes[name, error.reason] += 1
            if error.reason == "OVERLOADED":
                record_property(f"{name} was refused", error.message)
        else:
            outcomes[name, ""] += 1

    async def many(client: Client, count: int) -> None:
        for _ in range(count // 8):
            await asyncio.gather(*(one(client) for _ in range(8)))

    async with secured.client("boss") as client, secured.plain() as channel:
        await many(client, CALLS // 8)
        before = await held(secured, channel)
        await many(client, CALLS)
        after = await held(secured, channel)
    expected = {name: name if name.isupper() else "" for name, _ in outcomes}
    # A busy machine may be asked for more than it can do in time; then it says so.
    assert {outcome for outcome in outcomes if outcome[1] != "OVERLOADED"} == set(expected.items())
    assert len(expected) == 12
    assert (after.busy, after.processes) == (0, before.processes)
    assert after.descriptors <= before.descriptors + 4
    assert after.resident < before.resident + SLACK // 2
