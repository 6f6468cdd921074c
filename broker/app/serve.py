"""The broker as a program: builds everything, serves, drains. Who needs whom decides the order of stopping."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from broker.aggregation.executor import WorkerPools
from broker.app.admin import Admin, CacheService
from broker.app.admission import recorded_admission
from broker.app.adoption import adopted, adoption
from broker.app.answers import HeldAnswers, held_answers, refreshing
from broker.app.backends import Backends, backends_of
from broker.app.database import Database, database
from broker.app.fleet import Alone, sharing
from broker.app.jobs import Jobs, jobs
from broker.app.learned import learned
from broker.app.materialised import answering
from broker.app.member import ALONE, Member
from broker.app.options import authenticator, server_options
from broker.app.pressure import heard
from broker.app.process import Process, process
from broker.app.protection import Protection, protected
from broker.app.query import build_query_service
from broker.app.questions import questions
from broker.app.rollup_admin import rollup_admin
from broker.app.rollups import Rollups, rollups, verifying
from broker.app.rungs import lower_rungs
from broker.app.stopping import Order, until
from broker.app.workers import workers
from broker.config.settings import Settings
from broker.domain.fleet import MemberKind
from broker.domain.model import Model
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.terms import AnswerPolicy
from broker.pipeline.repeated import Repeating
from broker.pipeline.service import QueryService
from broker.policy.classify import Classifier
from broker.ports.clock import Clock
from broker.runtime import collector
from broker.runtime.admission import Admission
from broker.runtime.fleet import Fleet
from broker.runtime.lifecycle import Program, Stop
from broker.runtime.signals import handled
from broker.runtime.state import PoolResources, Sources, StateReader
from broker.transport.call_path import CallPath
from broker.transport.options import ServerOptions
from broker.transport.recollection import Recollection
from broker.transport.server import Server
from broker.transport.servicers.admin import AdminServicer
from broker.transport.servicers.catalog import CatalogServicer
from broker.transport.servicers.jobs import JobServicer
from broker.transport.servicers.operations import OperationsServicer
from broker.transport.servicers.query import QueryServicer
from broker.transport.status import Statuses

CALCULATING = (PoolName.DASHBOARD, PoolName.EXPLORATION)
"""Pools with worker processes."""
POOLS = (*CALCULATING, PoolName.ADMIN)
"""Pools of a broker; jobs run in worker processes of their own."""
QUERY_SERVICE, JOB_SERVICE = "querybroker.v1.QueryService", "querybroker.v1.JobService"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Where a broker answers; ``metrics_address`` is empty without a Prometheus endpoint."""

    address: str
    metrics_address: str


async def run_server(
    settings: Settings,
    model: Model,
    *,
    ready: Callable[[ServerInfo], None] | None = None,
    stop: asyncio.Event | None = None,
    member: Member = ALONE,
) -> None:
    """Serves until a signal, AdminService.Drain or ``stop``; ``ready`` is called once the server answers.

    Raises:
        StartError: The configuration does not fit the database.
        OSError: An address cannot be listened on.
    """
    program = Program()
    settings = replace(settings, pools=member.portion(settings.pools))

    async def setup(running: Program) -> None:
        own = await running.enter("process", process("broker", settings.telemetry, member.index))
        data = await running.enter("database", database(settings, POOLS, own.value), [own])
        crew = await running.enter("workers", workers(settings, CALCULATING, own.value), [own])
        queue = await running.enter("jobs", jobs(settings.jobs, own.value), [own])
        rolled = await running.enter(
            "rollups", rollups(settings, model, data.value.store, crew.value, own.value), [own, data, crew]
        )
        classifier = Classifier(settings.server.classes)
        memory = await running.enter("learned", learned(classifier, settings, own.value), [own])
        server = Broker(
            settings,
            model,
            own.value,
            data.value,
            crew.value,
            queue.value,
            rolled.value,
            classifier,
            running,
            ready,
            member,
            stop,
        )
        running.start("server", server.run, [data, crew, queue, rolled, memory])
        if stop is not None:
            running.start("stop", partial(until, stop, running))

    with handled(program):
        await program.run(setup)


@dataclass(frozen=True, slots=True)
class Broker:
    """The server over the open parts."""

    settings: Settings
    model: Model
    process: Process
    database: Database
    crew: WorkerPools
    jobs: Jobs
    rollups: Rollups
    classifier: Classifier
    program: Program
    ready: Callable[[ServerInfo], None] | None
    member: Member
    order: asyncio.Event | None

    async def run(self, stop: Stop) -> None:
        """Serves until told to stop, then drains."""
        own = self.process
        limits = {name: self.settings.pools[name] for name in POOLS}
        async with recorded_admission(self.settings, limits, own, self.member.index) as admission:
            with protected(own, admission, limits, self.settings.server) as protection:
                await self._run(stop, admission, limits, protection)

    async def _run(
        self,
        stop: Stop,
        admission: Admission,
        limits: Mapping[PoolName, PoolLimits],
        protection: Protection,
    ) -> None:
        own = self.process
        options = server_options(self.settings.server, shared=self.member.index is not None)
        every = backends_of(limits, self.settings.database.replicas)
        backends = Backends(
            self.database.store, self.database.pools.guard, own.clock, options.check_timeout, every
        )
        shared = sharing(self.settings, MemberKind.BROKER, limits, admission, own, self.member.count)
        listening = heard(self.settings, limits, self.database.pools, admission, own)
        verified = verifying(
            self.rollups, self.settings, self.database.store, self.crew, admission, self.process
        )
        recording = questions(self.settings, own, self.member.index)
        holding = held_answers(self.settings, self.model, admission, own)
        async with listening, shared as fleet, verified as noted, recording as recorded, holding as held:
            protection.door.open_to(held.answers)
            admin = Admin(self._reader(admission, backends, fleet, held), self.program, self.member)
            query = build_query_service(
                self.settings,
                self.model,
                self.database.store,
                self.crew,
                admission,
                own.clock,
                own.telemetry,
                classifier=self.classifier,
                rollups=self.rollups,
                noted=noted,
                recorded=recorded,
                held=held,
                down=self.database.pools.down,
                rungs=lower_rungs(self.database, self.rollups, self.crew, admission, own),
            )
            query = answering(query, self.settings.jobs, self.jobs.ports.store, self.crew, own.clock)
            async with adoption(self.settings, self.model, self.jobs, own, query) as adopter:
                query = adopted(query, adopter, own.clock)
                server = self._server(query, admission, admin, backends, options, protection, held)
                async with refreshing(held, query):
                    await self._serve(stop, admission, admin, server, protection)

    async def _serve(
        self, stop: Stop, admission: Admission, admin: Admin, server: Server, protection: Protection
    ) -> None:
        try:
            port = await server.start()
            collector.settle()
            protection.guard.watch(self.process.lag)
            host = self.settings.server.host
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            _LOG.info("serving at %s", address)
            if self.ready is not None:
                self.ready(ServerInfo(address, self.process.metrics_address))
            await stop.wait()
        finally:
            ordered = self.order.grace if isinstance(self.order, Order) else None
            await server.drain(ordered if admin.grace is None else admin.grace)
            admission.drain()

    def _reader(
        self, admission: Admission, backends: Backends, fleet: Fleet | Alone, held: HeldAnswers
    ) -> StateReader:
        own = self.process

        def resources(pool: PoolName) -> PoolResources:
            connections, crew = self.database.pools.usage(pool), self.crew.stats().get(pool)
            beside = PoolResources(connection_count=connections[0], connection_limit=connections[1])
            if crew is None:
                return beside
            return replace(
                beside,
                worker_count=crew.workers,
                worker_task_count=crew.tasks,
                worker_restart_count=crew.restarts,
            )

        sources = Sources(
            resources,
            backends=lambda: backends.states(admission.backends()),
            caches=held.cache.answers.states,
            jobs=self.jobs.queue_state,
            draining=lambda: self.program.stopping,
            fleet=fleet.state,
        )
        return StateReader(own.identity, own.clock, admission, own.lag, sources)

    def _server(
        self,
        query: QueryService,
        admission: Admission,
        admin: Admin,
        backends: Backends,
        options: ServerOptions,
        protection: Protection,
        held: HeldAnswers,
    ) -> Server:
        own = self.process
        statuses = Statuses(own.random.random)
        path = CallPath(
            authenticator(self.settings.auth),
            own.telemetry,
            own.clock,
            new_id,
            statuses,
            protection.gate,
            options,
            protection.door.refusal,
        )
        defaults = AnswerPolicy()
        operated = rollup_admin(self.model, self.rollups, self.database.store, self.crew, admission)
        cached = CacheService(held.cache.answers, self.model.datasets) if held.cache.enabled else None
        job_servicer = JobServicer(
            self.jobs.service(query.plan, query.sql.gate, self.model.datasets), statuses, defaults, new_id
        )
        services = [
            QueryServicer(
                query,
                statuses,
                defaults,
                self.settings.server.max_panels,
                _recollection(query, own.clock),
            ).service(),
            job_servicer.service(),
            CatalogServicer(query.plan.catalog, self.jobs.datasets(query.plan)).service(),
            AdminServicer(admin, job_servicer, operated, cached).service(),
            OperationsServicer(job_servicer.app, statuses, own.clock).service(),
        ]
        checks = {QUERY_SERVICE: protection.before(held.ready(backends.check)), JOB_SERVICE: self.jobs.ready}
        return Server(path, services, checks, options)


def _recollection(query: QueryService, clock: Clock) -> Recollection | None:
    return None if query.cached is None else Recollection(Repeating(query.cached, query.meter), clock)


def new_id() -> str:
    """A fresh request id: a UUID of version 4, written without the objects that the library makes."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
