"""Opens the job database for a broker: the store, the hub of watchers, the result files, the queue's metrics."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.adapters.migrate import check_migrated
from broker.adapters.pg_jobs_open import PgJobs, open_jobs
from broker.app.kinds import custom_kinds
from broker.app.materialised import materialised_datasets
from broker.app.process import Process
from broker.app.results import result_store
from broker.config.settings import JobSettings
from broker.domain.model import Dataset
from broker.domain.state import JobQueueState
from broker.jobs.custom import Registered
from broker.jobs.gauges import QueueGauges
from broker.jobs.hub import JobHub
from broker.jobs.materialise import MATERIALIZE, MaterialiseCheck
from broker.jobs.materialised import MaterialisedDatasets
from broker.jobs.materialised_export import ExportCheck, TablesOnly
from broker.jobs.service import Check, JobService, JobTerms
from broker.jobs.sources import Sources, SqlGate
from broker.pipeline.planner import Planner
from broker.policy.backlog import BacklogLimits
from broker.rollups.kinds import BUILD, REFRESH, RollupChecks, stored

COMPONENT = "jobs"
"""Name of the job tables among the migrations."""
CONNECTIONS = 4
"""Connections to the job database; every statement on it is short."""
COUNT_SECONDS = 10.0
"""How often the queue is counted, for its metrics."""


@dataclass(slots=True)
class Jobs:
    """The jobs, seen from a broker."""

    settings: JobSettings
    process: Process
    ports: PgJobs
    hub: JobHub
    kinds: Mapping[str, Registered]
    migrated: bool = False

    def datasets(self, plan: Planner) -> MaterialisedDatasets:
        """The datasets that jobs made."""
        return materialised_datasets(self.ports.store, plan, self.process.clock)

    def service(self, plan: Planner, gate: SqlGate, datasets: Mapping[str, Dataset]) -> JobService:
        """The application's side of JobService; rollups are built where ``datasets`` have some."""
        sources, made = Sources(plan, gate), self.datasets(plan)
        own = MaterialiseCheck(plan, self.settings.retention)
        checks: dict[str, Check] = {
            "export": ExportCheck(sources, made).check,
            "report": TablesOnly(sources.check_sections, made).check,
            MATERIALIZE: TablesOnly(own.check, made).check,
        }
        if stored(datasets):
            checks |= dict.fromkeys((BUILD, REFRESH), RollupChecks(datasets).check)
        checks |= {name: kind.check for name, kind in self.kinds.items()}
        return JobService(
            store=self.ports.store,
            events=self.hub,
            results=result_store(self.settings),
            checks=checks,
            clock=self.process.clock,
            new_id=lambda: str(uuid.uuid4()),
            terms=JobTerms(
                self.settings.max_attempts,
                self.settings.attempt_timeout,
                backlog=BacklogLimits(
                    self.settings.tenant_queue, self.settings.queue, self.settings.queue_age
                ),
            ),
        )

    async def queue_state(self) -> JobQueueState:
        """The queue, for operators."""
        return await self.ports.store.queue_state()

    async def ready(self) -> None:
        """Returns when the job tables are there; raises when they are not or cannot be reached."""
        if not self.migrated:
            await check_migrated(self.settings.dsn, COMPONENT)
            self.migrated = True
        await self.ports.store.versions([])


@asynccontextmanager
async def jobs(settings: JobSettings, process: Process) -> AsyncIterator[Jobs]:
    """The jobs; their database may be unreachable, which every call then says.

    Raises:
        StartError: A kind of the operator cannot be loaded.
    """
    kinds = custom_kinds(settings.kinds)
    opened = open_jobs(
        settings.dsn,
        connections=CONNECTIONS,
        clock=process.clock.monotonic,
        rng=process.random,
        telemetry=process.telemetry,
    )
    async with opened as ports:
        hub = JobHub(ports.store, ports.signals)
        gauges = QueueGauges(ports.store, process.telemetry)
        async with hub.running(), gauges.running(COUNT_SECONDS, process.random):
            yield Jobs(settings, process, ports, hub, kinds)
