"""However a call ends, its seat is free at once and its statement is stopped: on every path that takes a seat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from broker.simulation import replay
from querybroker import query
from querybroker.v1 import query_pb2, query_service_pb2
from querybroker.v1.catalog_service_pb2 import ListDatasetsRequest
from querybroker.v1.catalog_service_pb2_grpc import CatalogServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import Connection, Databases, run_sync
from tests.system.conftest import dashboard
from tests.system.secured import LOCK, Secured, as_caller, secured_broker
from tests.system.test_overload import pool_of

LOCKED = query("locked", dimensions=["note"])
SALES = query("sales", measures=["sales"])
NOTES = query("sales", dimensions=["id", "note"])
BOSS = as_caller("boss")
Ask = Callable[[Any, float], Coroutine[None, None, None]]
SMALL = {
    "server.stream_stall": 0.5,
    "server.batch_bytes": 65_536,
    "tenants.globex.in_flight": 1,
}


async def ask_dashboard(stub: Any, seconds: float) -> None:
    await stub.Dashboard(dashboard(LOCKED), timeout=seconds, metadata=BOSS)


async def ask_panels(stub: Any, seconds: float) -> None:
    counted = query("locked", dimensions=["note"], measures=["rows"])
    await stub.Dashboard(dashboard(SALES, counted), timeout=seconds, metadata=BOSS)


async def ask_explore(stub: Any, seconds: float) -> None:
    few = query("locked", dimensions=["note"], limit=3)
    await all_of(stub, query_service_pb2.ExploreRequest(query=few), seconds)


async def ask_sql(stub: Any, seconds: float) -> None:
    sql = query_pb2.SqlQuery(text="SELECT note FROM locked")
    await all_of(stub, query_service_pb2.ExploreRequest(sql=sql), seconds)


async def ask_explain(stub: Any, seconds: float) -> None:
    await stub.Explain(query_service_pb2.ExplainRequest(query=SALES), timeout=seconds, metadata=BOSS)


async def all_of(stub: Any, request: query_service_pb2.ExploreRequest, seconds: float) -> None:
    async for _ in stub.Explore(request, timeout=seconds, metadata=BOSS):
        pass


async def drained(call: Any) -> None:
    """Reads what is left of a stream."""
    while await call.read() is not grpc.aio.EOF:
        pass


PATHS: dict[str, Ask] = {
    "dashboard": ask_dashboard,
    "panels": ask_panels,
    "explore": ask_explore,
    "sql": ask_sql,
    "explain": ask_explain,
}


@pytest.fixture(scope="module")
def place(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker that waits half a second for readers, and has a tenant that may ask one thing at a time."""
    dsn = run_sync(databases.create())
    with secured_broker(dsn, tmp_path_factory.mktemp("freed"), SMALL, worker=False) as running:
        yield running


async def busy(control: Connection) -> int:
    """Statements that wait for a lock."""
    return int(
        await control.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )
    )


async def quiet(channel: grpc.aio.Channel, control: Connection) -> None:
    """Waits until no seat is taken, nobody waits, no worker is at work and no statement waits for a lock."""

    async def idle() -> bool:
        pools = [await pool_of(channel, name) for name in ("dashboard", "exploration", "admin")]
        held = sum(p.seats_used + p.queue_length + p.worker_task_count for p in pools)
        return held == 0 and await busy(control) == 0

    await eventually(idle, "no seat is taken and no statement runs")


@pytest.mark.parametrize("end", ["deadline", "cancel", "disconnect"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_seat_is_free_when_nobody_waits_for_the_answer(place: Secured, path: str, end: str) -> None:
    control = await asyncpg.connect(place.dsn)
    holder = await asyncpg.connect(place.dsn)
    try:
        await holder.execute(f"SELECT pg_advisory_lock({LOCK})")
        async with place.plain() as channel, holder.transaction():
            if path == "explain":
                await holder.execute("LOCK TABLE sales IN ACCESS EXCLUSIVE MODE")
            client = place.plain()
            seconds = 1.0 if end == "deadline" else 19.0
            call = asyncio.create_task(PATHS[path](QueryServiceStub(client), seconds))

            async def stuck() -> bool:
                return await busy(control) > 0

            if end == "deadline":
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            else:
                await eventually(stuck, "a statement waits for the lock")
                if end == "cancel":
                    call.cancel()
                else:
                    await client.close(0)
                with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await call
            await quiet(channel, control)
            await client.close()
    finally:
        await holder.close()
        await control.close()


async def test_a_seat_is_free_when_the_database_has_finished_though_nobody_reads(place: Secured) -> None:
    async with place.plain() as channel:
        request = query_service_pb2.ExploreRequest(query=SALES)
        call = QueryServiceStub(channel).Explore(request, timeout=30, metadata=BOSS)
        await call.read()

        async def free() -> bool:
            return (await pool_of(channel, "exploration")).seats_used == 0

        await eventually(free, "the seat is free while the answer is still to be read")
        assert not call.done()
        await drained(call)
        assert await call.code() is grpc.StatusCode.OK


async def test_a_reader_that_takes_nothing_loses_its_seat(place: Secured) -> None:
    control = await asyncpg.connect(place.dsn)
    options = (("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1))
    async with (
        place.plain() as channel,
        grpc.aio.insecure_channel(place.broker.address, options=options) as slow,
    ):
        request = query_service_pb2.ExploreRequest(query=NOTES)
        call = QueryServiceStub(slow).Explore(request, timeout=600, metadata=BOSS)
        await call.read()
        await quiet(channel, control)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await drained(call)
    await control.close()
    known = info_of(caught.value)
    assert known.reason == "DEADLINE_EXCEEDED"
    assert known.metadata["limiting_factor"] == "slow_reader"


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo in the trailers."""
    encoded = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(encoded, bytes)
    info = error_details_pb2.ErrorInfo()
    assert any(packed.Unpack(info) for packed in status_pb2.Status.FromString(encoded).details)
    return info


async def test_a_tenant_over_its_quota_is_turned_away_at_the_door(place: Secured) -> None:
    control = await asyncpg.connect(place.dsn)
    await control.execute(f"SELECT pg_advisory_lock({LOCK})")
    async with place.plain() as channel:
        stub, bob = QueryServiceStub(channel), as_caller("bob")
        first = asyncio.ensure_future(stub.Dashboard(dashboard(LOCKED), timeout=19, metadata=bob))

        async def taken() -> bool:
            return (await pool_of(channel, "dashboard")).seats_used == 1

        await eventually(taken, "the tenant has what it may have")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Dashboard(dashboard(SALES), timeout=19, metadata=bob)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        known = info_of(caught.value)
        assert known.reason == "TENANT_QUOTA"
        assert known.metadata["limiting_factor"] == "tenant_in_flight"
        assert known.metadata["tenant_share"] == "1.000"
        assert dict(caught.value.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "-1"
        await stub.Dashboard(dashboard(SALES), timeout=19, metadata=BOSS)
        await control.execute(f"SELECT pg_advisory_unlock({LOCK})")
        await first
        await stub.Dashboard(dashboard(SALES), timeout=19, metadata=bob)
    await control.close()


async def test_a_broker_without_memory_refuses_what_takes_seats_and_answers_the_rest(
    databases: Databases, tmp_path: Path
) -> None:
    dsn = await databases.create()
    with secured_broker(dsn, tmp_path, {"server.memory_limit": "1MB"}, worker=False) as small:
        async with small.plain() as channel:

            async def refused() -> bool:
                try:
                    await QueryServiceStub(channel).Dashboard(dashboard(SALES), timeout=19, metadata=BOSS)
                except grpc.aio.AioRpcError as error:
                    return info_of(error).metadata["limiting_factor"] == "memory"
                return False

            await eventually(refused, "the guard has looked at the memory")
            found = await CatalogServiceStub(channel).ListDatasets(ListDatasetsRequest(), metadata=BOSS)
            assert len(found.datasets) > 0


async def test_the_decision_log_of_a_broker_can_be_played_again(databases: Databases, tmp_path: Path) -> None:
    dsn = await databases.create()
    path = tmp_path / "decisions.jsonl"
    one = {"pools.dashboard.in_flight": 1, "server.decision_log": str(path)}
    with secured_broker(dsn, tmp_path, one, worker=False) as place:
        async with place.plain() as channel:
            stub = QueryServiceStub(channel)

            async def ask() -> None:
                with suppress(grpc.aio.AioRpcError):
                    await stub.Dashboard(dashboard(SALES), timeout=2, metadata=BOSS)

            await asyncio.gather(*(ask() for _ in range(60)))
        assert place.broker.stop() == 0
    played = replay.run(path)
    assert played.difference is None
    assert played.decisions["admitted"] > 0
    assert played.decisions["queued"] + played.decisions["refused"] > 0
