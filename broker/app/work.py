"""The job worker as a program: a lease, slots, the kinds of job, and their children."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial

from broker.adapters.pg_jobs_open import PgJobs, open_jobs
from broker.app.admission import build_admission
from broker.app.database import Database, database
from broker.app.fleet import sharing
from broker.app.jobs import CONNECTIONS
from broker.app.kinds import custom_kinds
from broker.app.lease import lease_keeper
from broker.app.materialised import materialised_datasets, materialised_rows
from broker.app.process import Process, process
from broker.app.query import build_gate, build_planner
from broker.app.results import result_store
from broker.app.rollup_work import rollup_work
from broker.app.stopping import until
from broker.app.workers import FarSteps, far_steps
from broker.config.settings import Settings
from broker.domain.fleet import MemberKind
from broker.domain.model import Model
from broker.domain.pool import PoolName, TenantLimits
from broker.domain.terms import AnswerPolicy
from broker.jobs.attempt import Tools
from broker.jobs.children import Children
from broker.jobs.custom import RunningKind
from broker.jobs.export import ExportKind
from broker.jobs.export_range import ExportRangeKind
from broker.jobs.kind import JobKind
from broker.jobs.materialise import MaterialiseKind
from broker.jobs.materialised_export import Exports
from broker.jobs.progress import ProgressBoard
from broker.jobs.ranged import RangedQueue
from broker.jobs.report import ReportKind
from broker.jobs.seats import Seat, job_seats, patient
from broker.jobs.sources import Sources
from broker.jobs.tracing import traced
from broker.jobs.upkeep import Upkeep
from broker.jobs.worker import Pace, Worker
from broker.ports.jobs import RunningLimits
from broker.runtime.admission import Admission
from broker.runtime.lifecycle import Program, Stop
from broker.runtime.signals import handled
from broker.transport.decode_job import decode_job_spec

POOLS = (PoolName.JOB, PoolName.ADMIN)
"""Pools of a worker: exports read with one, estimates with the other."""


async def run_worker(
    settings: Settings,
    model: Model,
    *,
    ready: Callable[[], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Works until a signal or ``stop``; ``ready`` is called once it looks for jobs.

    Raises:
        StartError: The configuration does not fit the database.
        OSError: An address cannot be listened on.
    """
    program = Program()

    async def setup(running: Program) -> None:
        own = await running.enter("process", process("worker", settings.telemetry))
        data = await running.enter("database", database(settings, POOLS, own.value), [own])
        queue = await running.enter("jobs", _queue(settings, own.value), [own])
        children = await running.enter("children", _children(settings), [own])
        far = await running.enter("cluster", far_steps(settings), [own])
        seats = await running.enter("seats", _seats(settings, own.value), [own])
        rollups = await running.enter(
            "rollups", rollup_work(settings, model, own.value, data.value, seats.value), [data, seats]
        )
        worker = build_worker(
            settings,
            model,
            own.value,
            data.value,
            queue.value,
            children.value,
            job_seats(seats.value),
            kinds=rollups.value.kinds,
            elsewhere=far.value,
        )
        running.start("worker", partial(_work, worker), [data, queue, children, far, seats, rollups])
        if rollups.value.upkeep is not None:
            running.start("upkeep of rollups", rollups.value.run, [rollups])
        if stop is not None:
            running.start("stop", partial(until, stop, running))
        if ready is not None:
            ready()

    with handled(program):
        await program.run(setup)


async def _work(worker: Worker, stop: Stop) -> None:
    """Runs the worker until told to stop; its own end, by a bug, ends the program."""
    working = asyncio.create_task(worker.run())
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        worker.stop()
        await working


@asynccontextmanager
async def _queue(settings: Settings, own: Process) -> AsyncIterator[PgJobs]:
    opened = open_jobs(
        settings.jobs.dsn,
        connections=CONNECTIONS,
        clock=own.clock.monotonic,
        rng=own.random,
        telemetry=own.telemetry,
        limits=RunningLimits(settings.jobs.tenant_running, settings.jobs.kind_running),
    )
    async with opened as ports:
        yield ports


@asynccontextmanager
async def _children(settings: Settings) -> AsyncIterator[Children]:
    children = Children(settings.pools[PoolName.JOB].worker_memory)
    try:
        yield children
    finally:
        children.kill_all()
        await asyncio.to_thread(children.close)


@asynccontextmanager
async def _seats(settings: Settings, own: Process) -> AsyncIterator[Admission]:
    """Seats of the database that jobs read from, shared with brokers and other workers; one more waits, for rollups.

    Limits of tenants are for callers who wait; jobs were let in when they were submitted.
    """
    pools = {PoolName.JOB: patient(settings.pools[PoolName.JOB], settings.jobs.slots + 1)}
    free = replace(settings, tenants={}, default_tenant=TenantLimits())
    admission = build_admission(free, pools, own)
    try:
        async with sharing(settings, MemberKind.WORKER, pools, admission, own):
            yield admission
    finally:
        admission.close()


def build_worker(
    settings: Settings,
    model: Model,
    own: Process,
    data: Database,
    ports: PgJobs,
    children: Children,
    seats: Seat,
    *,
    kinds: Mapping[str, JobKind],
    elsewhere: FarSteps | None = None,
) -> Worker:
    """The worker over the open parts; ``kinds`` are those of rollups."""
    results = result_store(settings.jobs)
    # Estimates are few and short beside the reading that takes a seat.
    gate = build_gate(settings, model, data.store, lambda _: nullcontext())
    planner = build_planner(model, own.telemetry)
    sources = Sources(planner, gate)
    decode = partial(decode_job_spec, defaults=AnswerPolicy())
    export = ExportKind(
        sources,
        data.store,
        decode,
        own.clock,
        telemetry=own.telemetry,
        seat=seats,
        ranges=ports.ranges,
        range_bytes=settings.jobs.export_range,
    )
    exports = Exports(
        export, materialised_datasets(ports.store, planner, own.clock), materialised_rows(settings.jobs)
    )
    datasets = MaterialiseKind(planner, export, decode, settings.jobs.materialized_bytes)
    part = ExportRangeKind(sources, data.store, decode, ports.ranges, telemetry=own.telemetry, seat=seats)
    report = ReportKind(sources, data.store, decode, own.clock, telemetry=own.telemetry, seat=seats)
    custom = {
        name: RunningKind(kind, ports.checkpoints, decode, elsewhere)
        for name, kind in custom_kinds(settings.jobs.kinds).items()
    }
    tools = Tools(
        queue=RangedQueue(ports.queue, ports.ranges),
        results=results,
        children=children,
        board=ProgressBoard(ports.queue),
        clock=own.clock,
        rng=own.random,
        retention=settings.jobs.retention,
    )

    return Worker(
        {each.name: each for each in (exports, datasets, part, report)} | custom | dict(kinds),
        tools,
        slots=settings.jobs.slots,
        lease=lease_keeper(settings.jobs, own, ports, settings.jobs.slots, os._exit),
        signals=ports.signals,
        upkeep=Upkeep(ports.keeper, results, own.random, settings.jobs.record_retention),
        pace=Pace(),
        scope=traced(own.telemetry, own.clock),
    )
