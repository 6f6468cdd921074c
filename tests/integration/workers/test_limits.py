"""Deadlines, cancels, memory and the number of tasks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from random import Random

import polars as pl
import psutil
import pytest

from broker.aggregation import pool
from broker.aggregation.executor import WorkerTaskError
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import CsvBlock
from broker.domain.values import Column, DataType, ResultFormat
from tests.integration.workers.conftest import POOL, READ, WORKERS, Crew, Gate, StartCrew, gone

SPIN = ("builtins:sum", (range(10**15),))
"""Years of work in one call of C code, which no signal handler interrupts."""


async def test_a_task_is_killed_at_its_deadline(crew: Crew) -> None:
    before = crew.pools.pids(POOL)
    with pytest.raises(BrokerError) as raised:
        await crew.call(SPIN[0], *SPIN[1], seconds=0.1)
    assert raised.value.reason is ErrorReason.DEADLINE_EXCEEDED
    await crew.complete()
    killed = set(before) - set(crew.pools.pids(POOL))
    assert len(killed) == 1
    assert gone(list(killed))
    assert crew.reasons == ["deadline"]


async def test_a_passed_deadline_starts_nothing(crew: Crew) -> None:
    with pytest.raises(BrokerError) as raised:
        await crew.call("builtins:abs", 1, seconds=-1.0)
    assert raised.value.reason is ErrorReason.DEADLINE_EXCEEDED


async def test_a_cancelled_task_is_killed(crew: Crew, gates: Callable[[], Gate]) -> None:
    gate = gates()
    task = crew.start(READ, gate.path)
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await crew.until(lambda: crew.reasons == ["cancelled"], "its worker is replaced")
    await crew.complete()
    gate.close()


async def test_a_task_that_ends_soon_after_its_cancel_keeps_its_worker(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "GRACE_SECONDS", 60.0)  # soon, on a machine that may be busy
    before = crew.pools.pids(POOL)
    task = crew.start("builtins:abs", -1)
    await asyncio.sleep(0)  # it has been sent
    assert crew.pools.stats()[POOL].tasks == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await crew.complete()
    assert set(crew.pools.pids(POOL)) == set(before)
    assert crew.reasons == []


async def test_who_waits_for_a_worker_may_leave(crew: Crew, gates: Callable[[], Gate]) -> None:
    held = [gates() for _ in range(WORKERS)]
    tasks = [crew.start(READ, gate.path) for gate in held]
    for gate in held:
        await gate.reached()
    waiting = [crew.start("builtins:abs", -i) for i in range(4)]
    await crew.until(lambda: crew.pools.stats()[POOL].waiting == 4, "four wait")
    with pytest.raises(BrokerError) as raised:
        await crew.call("builtins:abs", -1, seconds=0.05)
    assert raised.value.reason is ErrorReason.DEADLINE_EXCEEDED
    waiting[1].cancel()
    held[0].open()  # one worker is free, and its turn goes to the first who still waits
    assert [await waiting[i] for i in (0, 2, 3)] == [0, 2, 3]
    assert waiting[1].cancelled()
    held[1].open()
    assert await asyncio.gather(*tasks) == [b"passed"] * 2
    assert crew.reasons == []


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("builtins:bytearray", (4 << 30,)),
        ("polars:Series.new_from_index", (pl.Series([1]), 0, 500_000_000)),
    ],
    ids=["python", "polars"],
)
async def test_a_task_that_takes_too_much_memory_gets_a_clear_error(
    start_crew: StartCrew, function: str, arguments: tuple[object, ...]
) -> None:
    crew = await start_crew(memory=256 << 20)
    with pytest.raises(BrokerError) as raised:
        await crew.call(function, *arguments)
    assert raised.value.reason is ErrorReason.RESULT_TOO_LARGE
    assert "256 MiB" in raised.value.message
    await crew.until(lambda: crew.reasons == ["memory"], "the worker is replaced")
    await crew.complete()
    assert crew.pools.stats()[POOL].retried == 0, "a second try would need as much"


async def test_a_worker_that_keeps_much_memory_is_replaced(start_crew: StartCrew) -> None:
    crew = await start_crew(memory=256 << 20)
    await crew.evaluate("__import__('sys').modules.__setitem__('ballast', bytearray(200 << 20))")
    await crew.until(lambda: crew.reasons == ["memory"], "the worker is replaced")
    await crew.complete()


async def test_an_unforeseen_error_names_the_workers_stack(crew: Crew) -> None:
    with pytest.raises(WorkerTaskError) as raised:
        await crew.call("math:sqrt", -1)
    assert "math domain error" in "".join(raised.value.__notes__)
    assert crew.reasons == []


async def test_a_panic_of_an_engine_costs_its_worker(crew: Crew) -> None:
    with pytest.raises(WorkerTaskError) as raised:
        await crew.call("polars:DataFrame", [(Decimal("NaN"),)], {"a": pl.Decimal(38, 2)})
    assert "PanicException" in "".join(raised.value.__notes__)
    await crew.until(lambda: crew.reasons == ["memory"], "a panicked engine is not trusted again")


async def test_a_thousand_random_cancels_leave_the_workers_as_before(crew: Crew) -> None:
    chance = Random(7)
    columns = (Column("a", DataType.INT64), Column("b", DataType.STRING))
    block = CsvBlock(columns, b"1,x\n" * 20_000)
    kinds: list[tuple[str, tuple[object, ...]]] = [
        ("builtins:abs", (1,)),
        ("broker.aggregation.tasks:batch", (block, None, columns, ResultFormat.COLUMNS)),
        ("broker.aggregation.tasks:batch", (block, None, columns, ResultFormat.ARROW)),
    ]
    await crew.complete()
    gc.collect()  # what earlier tests have left open
    before = _shape()
    spinning = 0
    for _ in range(125):
        chosen = [chance.choice(kinds) for _ in range(8)]
        if chance.random() < 0.2:
            await crew.complete()  # so that the first task is sent at once
            chosen[0], spinning = SPIN, spinning + 1
        tasks = [crew.start(function, *arguments) for function, arguments in chosen]
        await asyncio.sleep(0)
        for task in chance.sample(tasks, len(tasks)):
            for _ in range(chance.randint(0, 5)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await crew.complete()
    stats = crew.pools.stats()[POOL]
    assert (stats.workers, stats.tasks, stats.waiting) == (WORKERS, 0, 0)
    await crew.until(lambda: _held(before), "as many worker processes as before, and no more open files")
    assert set(crew.reasons) == {"cancelled"}
    assert len(crew.reasons) >= spinning > 10, "a task that does not end by itself costs its worker"
    assert await asyncio.gather(*(crew.call("builtins:abs", -i) for i in range(8))) == list(range(8))


def _shape() -> tuple[int, int]:
    """Processes of the workers below this one, and open files. (Other tests' databases come and go beside them.)"""
    found = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            found += any("broker.aggregation" in word for word in child.cmdline())
    return found, len(list(Path("/proc/self/fd").iterdir()))


def _held(before: tuple[int, int]) -> bool:
    processes, files = _shape()
    return processes == before[0] and files <= before[1]
