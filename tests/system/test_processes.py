"""``broker serve --processes 2``: two brokers on one port, seen from their clients and from their operator."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc.aio
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from broker.demo.embedded import EmbeddedPostgres
from querybroker.v1 import admin_service_pb2, query_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.fleet_server import RunningFleet, running_fleet
from tests.support.pg import Databases, prepare, run_sync
from tests.support.processes import ended
from tests.system.conftest import CHANNEL, MODEL, SCHEMA, SLOW, dashboard, query

SEATS = 4
LOCKED = query("locked", measures=["rows"], dimensions=["note"])
COUNT = query(measures=["events"])


@dataclass(frozen=True)
class Place:
    """The processes and their database."""

    fleet: RunningFleet
    dsn: str
    jobs_dsn: str

    @asynccontextmanager
    async def channels(self, count: int = 2) -> AsyncIterator[dict[str, grpc.aio.Channel]]:
        """A connection to each of ``count`` different processes, by instance id: the kernel chooses, so try again."""
        found: dict[str, grpc.aio.Channel] = {}
        spare: list[grpc.aio.Channel] = []
        try:

            async def reached() -> bool:
                channel = grpc.aio.insecure_channel(self.fleet.address, options=CHANNEL)
                spare.append(channel)
                found.setdefault((await state_of(channel)).instance_id, channel)
                return len(found) == count

            await eventually(reached, f"{count} processes answer")
            yield found
        finally:
            await asyncio.gather(*(channel.close() for channel in spare))


async def state_of(channel: grpc.aio.Channel) -> admin_service_pb2.BrokerState:
    stub = AdminServiceStub(channel)
    return (await stub.GetState(admin_service_pb2.GetStateRequest(), timeout=10)).state


async def answers(channel: grpc.aio.Channel) -> int:
    response = await QueryServiceStub(channel).Dashboard(dashboard(COUNT), timeout=30)
    return int(response.panels[0].table.columns.columns[0].int64_values.values[0])


@pytest.fixture
def place(databases: Databases, tmp_path: Path) -> Iterator[Place]:
    """Two processes over databases of the test's own, with the leases in the second one."""
    dsn, jobs_dsn = run_sync(databases.create()), run_sync(databases.create())
    run_sync(prepare(dsn, SCHEMA, ("jobs", "fleet"), jobs_dsn=jobs_dsn))
    config = tmp_path / "broker.yaml"
    config.write_text(MODEL)
    overrides = {
        "pools.dashboard.workers": 2,
        "pools.exploration.workers": 2,
        "database.limit.seats": SEATS,
        "telemetry.log_format": "json",
        "jobs.dsn": jobs_dsn,
    }
    with running_fleet(dsn, tmp_path, config, 2, overrides) as fleet:
        yield Place(fleet, dsn, jobs_dsn)


async def test_both_serve_on_one_port_and_end_together(place: Place) -> None:
    async with place.channels() as channels:
        assert [await answers(channel) for channel in channels.values()] == [200_000, 200_000]
        names = sorted(channels)
    assert [name.rpartition("-")[0].split("-")[:2] for name in names] == [["broker", "0"], ["broker", "1"]]
    assert {child.pid for child in place.fleet.children()} == set(place.fleet.pids)
    assert await asyncio.to_thread(place.fleet.stop) == 0
    assert not any(psutil.pid_exists(pid) for pid in place.fleet.pids)
    log = place.fleet.log.read_text()
    assert '"process": "0"' in log
    assert '"process": "1"' in log


async def test_a_process_that_is_killed_loses_its_own_calls_only_and_is_started_again(place: Place) -> None:
    async with place.channels() as channels:
        (first, kept), (_, lost) = sorted(channels.items())
        victim = place.fleet.pids[1]
        calls = [QueryServiceStub(channel).Dashboard(dashboard(SLOW), timeout=60) for channel in (kept, lost)]

        async def both_run() -> bool:
            return all([(await state_of(c)).pools[0].seats_used == 1 for c in (kept, lost)])

        await eventually(both_run, "both calls run")
        psutil.Process(victim).kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await calls[1]
        assert await answers(kept) == 200_000
        assert (await calls[0]).panels[0].HasField("table")
    async with place.channels() as channels:
        assert first in channels
        assert len(channels) == 2
        assert [await answers(channel) for channel in channels.values()] == [200_000, 200_000]
    assert victim not in {child.pid for child in place.fleet.children()}
    assert "was ended by SIGKILL" in place.fleet.log.read_text()


async def test_one_that_is_asked_to_drain_takes_the_others_along(place: Place) -> None:
    async with place.channels() as channels:
        one, other = channels.values()
        running = asyncio.ensure_future(outcome(other, SLOW))

        async def admitted() -> bool:
            return (await state_of(other)).pools[0].seats_used == 1

        await eventually(admitted, "a call runs at the other")
        request = admin_service_pb2.DrainRequest(grace=Duration(nanos=500_000_000))
        assert (await AdminServiceStub(one).Drain(request)).state.draining
        # It would run for ten seconds; the grace that the operator gave reaches the other process too.
        assert await running == "UNAVAILABLE"
    assert await asyncio.to_thread(place.fleet.process.wait, 60) == 0


async def outcome(channel: grpc.aio.Channel, asked: query_pb2.Query) -> str:
    """How a call ends."""
    try:
        await QueryServiceStub(channel).Dashboard(dashboard(asked), timeout=60)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def settled(channels: Iterable[grpc.aio.Channel], leases: list[int]) -> None:
    """Returns when every process knows of such leases of all."""

    async def known() -> bool:
        told = [sorted(m.seats for m in (await state_of(channel)).fleet) for channel in channels]
        return told == [leases] * len(told)

    await eventually(known, f"leases of {leases}")


async def test_together_they_use_the_seats_of_one(place: Place) -> None:
    beside, holder = await asyncpg.connect(place.dsn), await asyncpg.connect(place.dsn)
    async with place.channels() as channels:
        await settled(channels.values(), [2, 2])
        await holder.execute("SELECT pg_advisory_lock(42)")
        calls = [
            asyncio.ensure_future(outcome(channel, LOCKED)) for channel in channels.values() for _ in range(6)
        ]
        counts: list[int] = []

        async def full() -> bool:
            counts.append(
                await beside.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND state = 'active' AND wait_event = 'advisory'"
                )
            )
            states = [await state_of(channel) for channel in channels.values()]
            assert all(sum(member.seats for member in state.fleet) <= SEATS for state in states)
            return counts.count(SEATS) >= 20

        await eventually(full, "as many statements run as there are seats, and go on running")
        assert max(counts) == SEATS
        await holder.execute("SELECT pg_advisory_unlock(42)")
        ended = await asyncio.gather(*calls)
        assert ended.count("OK") >= SEATS
        assert set(ended) <= {"OK", "UNAVAILABLE"}
    await beside.close()
    await holder.close()


async def test_one_that_has_nothing_to_do_leaves_its_seats_to_the_other(place: Place) -> None:
    holder = await asyncpg.connect(place.dsn)
    async with place.channels() as channels:
        await settled(channels.values(), [2, 2])
        busy, _ = channels.values()
        await holder.execute("SELECT pg_advisory_lock(42)")
        calls = [asyncio.ensure_future(outcome(busy, LOCKED)) for _ in range(4)]
        await settled(channels.values(), [1, 3])
        await holder.execute("SELECT pg_advisory_unlock(42)")
        await asyncio.gather(*calls)
    await holder.close()


async def test_they_serve_on_when_the_leases_are_lost_and_share_again_when_they_are_back(
    place: Place, postgres: EmbeddedPostgres
) -> None:
    name = place.jobs_dsn.rpartition("/")[2]
    operator = await asyncpg.connect(postgres.dsn())
    async with place.channels() as channels:
        await settled(channels.values(), [2, 2])
        await operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await operator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )

        async def noticed() -> bool:
            return place.fleet.log.read_text().count("seats are not shared") == 2

        await eventually(noticed, "both say that the leases are lost")
        assert [await answers(channel) for channel in channels.values()] == [200_000, 200_000]
        await operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        store = await asyncpg.connect(place.jobs_dsn)

        async def back() -> bool:
            found = await store.fetch(
                "SELECT seats FROM broker.fleet_member WHERE expire_time > clock_timestamp()"
            )
            return sorted(row["seats"] for row in found) == [2, 2]

        await eventually(back, "both hold leases again")
        await store.close()
    await operator.close()


async def test_without_the_parent_the_children_drain(place: Place) -> None:
    place.fleet.process.kill()
    await asyncio.gather(*(ended(pid) for pid in place.fleet.pids))


async def test_an_interrupt_in_the_terminal_ends_all(place: Place) -> None:
    assert await asyncio.to_thread(place.fleet.stop, signal.SIGINT) == 0
    assert not any(psutil.pid_exists(pid) for pid in place.fleet.pids)


def test_what_cannot_start_ends_with_its_reason(databases: Databases, tmp_path: Path) -> None:
    dsn = run_sync(databases.create())
    config = tmp_path / "broker.yaml"
    config.write_text(MODEL)
    wrong = f"{dsn}_that_is_not_there"
    with (
        pytest.raises(RuntimeError, match="does not let the broker in"),
        running_fleet(wrong, tmp_path, config, 2),
    ):
        pass
