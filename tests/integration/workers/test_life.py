"""Worker processes that start, serve, die and are replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName
from tests.integration.workers.conftest import POOL, READ, WORKERS, Crew, Gate, StartCrew, gone


async def test_workers_hold_nothing_of_the_server(crew: Crew) -> None:
    modules = set(await crew.evaluate("sorted(__import__('sys').modules)"))
    assert {"polars", "datasketches", "pyarrow", "broker.aggregation.kernels"} <= modules
    assert not modules & {"grpc", "asyncpg", "opentelemetry", "sqlglot", "pydantic", "pandas", "querybroker"}
    assert await crew.evaluate("__import__('polars').thread_pool_size()") == 1


async def test_a_killed_worker_costs_its_task_one_retry_and_others_nothing(
    crew: Crew, gates: Callable[[], Gate]
) -> None:
    mine, other = gates(), gates()
    task = crew.start(READ, mine.path)
    await mine.reached()
    await crew.until(lambda: len(_readers(crew, mine)) == 1, "the worker's own file is open, too")
    (victim,) = _readers(crew, mine)
    neighbour = crew.start(READ, other.path)
    await other.reached()
    os.kill(victim, signal.SIGKILL)
    await crew.until(lambda: gone([victim]), "the victim is dead")
    await crew.until(lambda: len(_readers(crew, mine)) == 1, "a second worker has the task")
    mine.open(b"second")
    other.open(b"first")
    assert (await task, await neighbour) == (b"second", b"first")
    await crew.complete()
    assert crew.reasons == ["crashed"]
    assert crew.pools.stats()[POOL].retried == 1


async def test_a_task_that_kills_its_worker_is_lost_after_the_second_one(crew: Crew) -> None:
    with pytest.raises(BrokerError) as raised:
        await crew.call("os:abort")
    assert raised.value.reason is ErrorReason.WORKER_LOST
    assert raised.value.retry_after is not None
    await crew.complete()
    assert crew.reasons == ["crashed"] * 2
    assert await crew.call("builtins:abs", -3) == 3


async def test_an_idle_worker_that_dies_is_replaced(crew: Crew) -> None:
    before = crew.pools.pids(POOL)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await crew.until(lambda: crew.reasons == ["crashed"] * WORKERS, "both are replaced")
    await crew.complete()
    assert not set(before) & set(crew.pools.pids(POOL))
    assert await crew.call("builtins:abs", -3) == 3


async def test_the_fork_server_may_die_as_well(crew: Crew) -> None:
    before = crew.pools.pids(POOL)
    server = psutil.Process(before[0]).parent()
    assert server is not None
    server.kill()
    await crew.until(lambda: gone(before), "the kernel ends the workers of a dead fork server")
    assert await crew.call("builtins:abs", -3) == 3
    await crew.complete()


async def test_signals_to_the_whole_group_leave_workers_alone(crew: Crew) -> None:
    before = crew.pools.pids(POOL)
    server = psutil.Process(before[0]).parent()
    assert server is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        for pid in (*before, server.pid):
            os.kill(pid, number)
    assert await crew.evaluate("1 + 1") == 2
    assert set(crew.pools.pids(POOL)) == set(before)
    assert crew.reasons == []


async def test_closing_ends_every_process_and_tells_who_waits(
    start_crew: StartCrew, gates: Callable[[], Gate]
) -> None:
    crew = await start_crew()
    held = [gates() for _ in range(WORKERS)]
    tasks = [crew.start(READ, gate.path) for gate in held]
    for gate in held:
        await gate.reached()
    waiting = crew.start("builtins:abs", 1)
    await crew.until(lambda: crew.pools.stats()[POOL].waiting == 1, "one waits")
    pids = crew.pools.pids(POOL)
    server = psutil.Process(pids[0]).parent()
    assert server is not None
    await crew.pools.close()
    for task in (*tasks, waiting):
        with pytest.raises(BrokerError) as raised:
            await task
        assert raised.value.reason is ErrorReason.DRAINING
    await crew.until(lambda: gone([*pids, server.pid]), "all processes are gone")
    with pytest.raises(BrokerError):
        await crew.call("builtins:abs", 1)


async def test_workers_die_with_a_broker_that_is_killed() -> None:
    broker = await asyncio.create_subprocess_exec(sys.executable, "-c", BROKER, stdout=subprocess.PIPE)
    assert broker.stdout is not None
    line = await broker.stdout.readline()
    pids = [int(pid) for pid in line.split()]
    assert len(pids) == 3
    assert not any(gone([pid]) for pid in pids)
    broker.kill()
    await broker.wait()
    await Crew.until(lambda: gone(pids), "fork server and workers are gone")


async def test_pools_do_not_share_workers(start_crew: StartCrew, gates: Callable[[], Gate]) -> None:
    crew = await start_crew(names=(POOL, PoolName.JOB))
    held = [gates() for _ in range(WORKERS)]
    tasks = [crew.start(READ, gate.path) for gate in held]
    for gate in held:
        await gate.reached()
    other = await crew.pools.call(PoolName.JOB, "os:getpid", (), crew.deadline(60))
    assert other in crew.pools.pids(PoolName.JOB)
    assert await crew.pools.call(PoolName.JOB, "os:nice", (0,), crew.deadline(60)) > 0, (
        "jobs give way to dashboards"
    )
    for gate in held:
        gate.open()
    await asyncio.gather(*tasks)


def _readers(crew: Crew, gate: Gate) -> list[int]:
    """The workers that are stuck at a gate."""
    found: list[int] = []
    for pid in crew.pools.pids(POOL):
        with suppress(FileNotFoundError):  # it has just died
            if any(link.resolve() == gate.path for link in Path(f"/proc/{pid}/fd").iterdir()):
                found.append(pid)
    return found


BROKER = """
import asyncio, itertools
from broker.aggregation.executor import WorkerPools
from broker.domain.pool import PoolLimits, PoolName
from broker.telemetry.instruments import Telemetry
import psutil

async def main():
    pools = WorkerPools({PoolName.DASHBOARD: PoolLimits(1, 1, 1, 2)}, None, Telemetry.off())
    await pools.start()
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
