"""Tasks on a Dask cluster: the same answers, killable kernels, and workers that are lost."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from distributed import Scheduler, Worker

from broker.aggregation import tasks
from broker.aggregation.dask_cluster import DaskCluster
from broker.aggregation.executor import WorkerPools
from broker.aggregation.framing import Encoded, Request
from broker.app.workers import FarSteps
from broker.app.workers import cluster as configured
from broker.config.loader import load_text
from broker.config.machine import Machine
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobState
from broker.domain.plan import LocalFile, ScanResult, SegmentBlock
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.query import Grain, Query
from broker.domain.rollup import Span
from broker.domain.segment import SegmentBuild
from broker.domain.timegrid import TimeGrid
from broker.domain.values import ResultFormat
from broker.jobs.custom import CustomAttempt, PermanentError
from broker.jobs.kind import JobContext
from broker.telemetry.instruments import Telemetry
from tests.integration.cluster.conftest import WORKERS, Far, Started, reached
from tests.integration.workers.conftest import POOL, READ, Crew, Gate, Noting, SystemClock, gates, gone
from tests.support.eventually import eventually
from tests.unit.aggregation.facts import facts, plan
from tests.unit.aggregation.source import results

MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.asyncio(loop_scope="module")
__all__ = ["gates"]


async def test_answers_are_those_of_this_machine(far: Far) -> None:
    resolved = plan(Query("facts", ("rows", "real_sum", "avg_ratio"), ("name",)))
    scanned = results(resolved, facts(Random(1)), [0], csv=True)
    table = Encoded(0, b"")
    for encoding in ResultFormat:
        asked = (POOL, scanned, resolved.finish, encoding, Crew.deadline(60))
        (table,) = tasks.table(scanned, resolved.finish, encoding)
        assert (await far.pools.table(*asked)).encoded == table.data
        batches = tasks.batches(scanned, resolved.finish, encoding)
        assert [batch.encoded for batch in await far.pools.batches(*asked)] == [each.data for each in batches]
    compared = await far.pools.compare(POOL, scanned, scanned, resolved.finish, Crew.deadline(60))
    assert (compared.rows, compared.differing) == (table.row_count, 0)
    pid = await far.call("os:getpid")
    assert pid in {process.pid for process in far.started.kernels()}, "kernels of the cluster did it"
    large = os.urandom(3 << 20)
    assert await far.call("builtins:bytes", large) == large, "past the scheduler, there and back"


async def test_errors_of_a_kernel_are_told_as_they_are(far: Far) -> None:
    with pytest.raises(BrokerError) as raised:
        await far.call("builtins:bytearray", 1 << 40)
    assert raised.value.reason is ErrorReason.RESULT_TOO_LARGE
    with pytest.raises(BrokerError) as raised:
        await far.call("os:abort")
    assert raised.value.reason is ErrorReason.WORKER_LOST
    assert await far.call("builtins:abs", -3) == 3


async def test_a_kernel_is_killed_on_cancel(far: Far, gates: Callable[[], Gate]) -> None:
    gate = gates()
    task = far.start(READ, gate.path)
    await gate.reached()
    victim = await _reader(far, gate)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await far.until(lambda: gone([victim]), "the kernel that was stuck is dead")
    gate.close()
    assert await far.call("builtins:abs", -3) == 3


async def test_a_kernel_is_killed_at_the_deadline(far: Far, tmp_path: Path) -> None:
    note, seconds = tmp_path / "pid", 0.5
    note.touch()
    path = f"__import__('pathlib').Path({str(note)!r})"
    endless = f"({path}.write_text(str(__import__('os').getpid())), sum(range(10**15)))"
    while not note.read_text():  # a slow machine may not even have begun when the deadline passes
        with pytest.raises(BrokerError) as raised:
            await far.call("builtins:eval", endless, seconds=seconds)
        assert raised.value.reason is ErrorReason.DEADLINE_EXCEEDED
        seconds *= 2
    await far.until(lambda: gone([int(note.read_text())]), "the kernel that went on is dead")
    assert await far.call("builtins:abs", -3) == 3


async def test_a_broker_that_goes_leaves_no_kernel_at_work(
    cluster: Started, gates: Callable[[], Gate]
) -> None:
    gate = gates()
    async with reached(cluster) as far:
        task = far.start(READ, gate.path)
        await gate.reached()
        victim = await _reader(far, gate)
    with pytest.raises(BrokerError) as raised:
        await task
    assert raised.value.reason is ErrorReason.DRAINING
    await far.until(lambda: gone([victim]), "the kernel that was stuck is dead")
    gate.close()


async def test_a_killed_dask_worker_costs_its_task_and_nothing_else(
    far: Far, gates: Callable[[], Gate]
) -> None:
    gate = gates()
    task = far.start(READ, gate.path)
    await gate.reached()
    kernel = psutil.Process(await _reader(far, gate))
    zygote = kernel.parent()
    assert zygote is not None
    worker = zygote.parent()
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(BrokerError) as raised:
        await task
    assert raised.value.reason is ErrorReason.WORKER_LOST
    assert raised.value.retry_after is not None
    await far.until(lambda: gone([kernel.pid, zygote.pid]), "its kernels went with it")
    gate.close()
    assert await far.call("builtins:abs", -3) == 3
    await far.complete()


async def test_what_reads_local_files_stays_here(far: Far) -> None:
    span = Span(0, 1)
    file = LocalFile("segment", Grain.DAY, "UTC", span)
    local = ScanResult((SegmentBlock((file,), (span,), (), (), (), ()),))
    build = SegmentBuild(span, TimeGrid((), MOMENT, Grain.DAY, "UTC"), (), (), (), base="path")
    for value in (local, build):
        assert await far.cluster.run(POOL, Request("builtins:len", ((value,),)), 60) is None
    reply = await far.cluster.run(POOL, Request("builtins:len", ((ScanResult(()),),)), 60)
    assert reply is not None
    assert reply.value == 1


async def test_nothing_but_what_belongs_to_it_listens(cluster: Started) -> None:
    process = psutil.Process(cluster.process.pid)
    ports = [each.laddr.port for each in process.net_connections() if each.status == psutil.CONN_LISTEN]
    assert len(ports) == 1 + WORKERS, "the scheduler and who watches its workers, but no pages of Dask"


async def test_the_configuration_says_where_to_and_what(cluster: Started) -> None:
    text = "datasets: {t: {table: t, measures: {n: count}}}\n"
    given = f"{text}cluster: {{address: '{cluster.address}', pools: [dashboard], smallest: 0B}}\n"
    near, far = (load_text(t, {}, machine=Machine(2), database_needed=False).settings for t in (text, given))
    assert configured(near) is None
    link = configured(far)
    assert link is not None
    await link.start()
    try:
        kernel = Request("broker.aggregation.tasks:warm_up", ())

        async def done() -> bool:
            return await link.run(PoolName.DASHBOARD, kernel, 60) is not None

        await eventually(done, "the cluster is found and does it")
        assert await link.run(PoolName.JOB, kernel, 60) is None, "not one of the pools"
        assert await link.run(PoolName.DASHBOARD, Request("os:getpid", ()), 60) is None, "not a kernel"
    finally:
        await link.close()


async def test_steps_of_jobs_are_computed_and_killed_there(far: Far, gates: Callable[[], Gate]) -> None:
    steps = FarSteps(far.cluster)
    job = Job("1", "acme", "ada", "custom:k", b"", JobState.RUNNING, "r", 0, 1, 1, 3, MOMENT, MOMENT)
    unused: Any = None
    context = JobContext(job, Deadline(0.0), unused, unused, lambda _: None)
    attempt: CustomAttempt[None] = CustomAttempt(context, None, b"", unused, steps)
    pid, argument = await attempt.compute("tests.support.far_steps:where", "given", anywhere=True)
    assert argument == "given"
    assert pid in {process.pid for process in far.started.kernels()}
    with pytest.raises(PermanentError, match="no use"):
        await attempt.compute("tests.support.far_steps:refuse", "no use", anywhere=True)
    gate = gates()
    task = asyncio.create_task(
        attempt.compute("tests.support.far_steps:stuck", str(gate.path), anywhere=True)
    )
    await gate.reached()
    victim = await _reader(far, gate)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await far.until(lambda: gone([victim]), "the step is dead")
    gate.close()


async def test_the_loss_of_the_scheduler_costs_the_tasks_under_way_and_work_goes_on_here(
    gates: Callable[[], Gate],
) -> None:
    gate, told = gates(), Told()
    logging.getLogger("distributed.client").addHandler(told)
    async with (
        Scheduler(port=0, dashboard=False, dashboard_address=":0") as scheduler,
        Worker(scheduler.address, nthreads=1),
    ):
        link = DaskCluster(scheduler.address, {POOL: 1 << 30}, 0, functions="")
        pools = WorkerPools({POOL: PoolLimits(1, 1, 1, 1)}, SystemClock(), Noting(), cluster=link)
        await pools.start()
        crew = Crew(pools, Noting())
        try:
            await crew.until(lambda: link.threads == 1, "the worker is known")
            task = crew.start(READ, gate.path)
            await gate.reached()
            await scheduler.close()
            with pytest.raises(BrokerError) as raised:
                await task
            assert raised.value.reason is ErrorReason.WORKER_LOST
            assert raised.value.retry_after is not None
            assert await crew.call("os:getpid") == pools.pids(POOL)[0]
        finally:
            gate.close()
            await pools.close()
            logging.getLogger("distributed.client").removeHandler(told)
    assert told.records == []


class Told(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


async def test_without_a_cluster_everything_is_done_here() -> None:
    link = DaskCluster("tcp://127.0.0.1:9", {POOL: 1 << 30}, 0, functions="", patience=0.1)
    pools = WorkerPools({POOL: PoolLimits(1, 1, 1, 1)}, SystemClock(), Telemetry.off(), cluster=link)
    await pools.start()
    try:
        assert await pools.call(POOL, "os:getpid", (), Crew.deadline(60)) == pools.pids(POOL)[0]
    finally:
        await pools.close()


async def _reader(far: Far, gate: Gate) -> int:
    """The kernel that has the gate open."""
    found: list[int] = []

    def seen() -> bool:
        for process in far.started.kernels():
            with suppress(OSError):  # it has just gone, or closed what it had open
                links = Path(f"/proc/{process.pid}/fd").iterdir()
                found.extend(process.pid for link in links if link.resolve() == gate.path)
        return bool(found)

    await far.until(seen, "a kernel is stuck at the gate")
    return found[0]
