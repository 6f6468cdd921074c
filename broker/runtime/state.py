"""What the process is doing, put together from those who know."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

import psutil

from broker.domain.errors import BrokerError
from broker.domain.pool import PoolName
from broker.domain.state import BackendState, BrokerState, CacheState, FleetMemberState, JobQueueState
from broker.ports.clock import Clock
from broker.runtime.admission import Admission
from broker.runtime.loop import LagMonitor
from broker.telemetry import catalog
from broker.telemetry.instruments import Telemetry

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process this is."""

    instance_id: str
    version: str
    start_time: datetime


@dataclass(frozen=True, slots=True)
class PoolResources:
    """What a pool has beside its seats: database connections and worker processes."""

    connection_count: int = 0
    connection_limit: int = 0
    worker_count: int = 0
    worker_task_count: int = 0
    worker_restart_count: int = 0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the parts of the state come from that the runtime does not know by itself."""

    resources: Callable[[PoolName], PoolResources] = lambda _: PoolResources()
    backends: Callable[[], tuple[BackendState, ...]] = tuple
    caches: Callable[[], tuple[CacheState, ...]] = tuple
    draining: Callable[[], bool] = bool
    jobs: Callable[[], Awaitable[JobQueueState]] | None = None
    fleet: Callable[[], tuple[FleetMemberState, ...]] = tuple


@dataclass(frozen=True, slots=True)
class StateReader:
    """Reads the state of the process."""

    identity: Identity
    clock: Clock
    admission: Admission
    lag: LagMonitor
    sources: Sources

    async def read(self) -> BrokerState:
        """The state now. A job store that fails leaves its part empty: operators look just when things fail."""
        jobs = await self._jobs()
        return BrokerState(
            instance_id=self.identity.instance_id,
            version=self.identity.version,
            start_time=self.identity.start_time,
            read_time=self.clock.now(),
            draining=self.admission.draining or self.sources.draining(),
            pools=tuple(
                replace(
                    pool,
                    connection_count=beside.connection_count,
                    connection_limit=beside.connection_limit,
                    worker_count=beside.worker_count,
                    worker_task_count=beside.worker_task_count,
                    worker_restart_count=beside.worker_restart_count,
                )
                for pool in self.admission.state()
                for beside in (self.sources.resources(pool.name),)
            ),
            backends=self.sources.backends(),
            caches=self.sources.caches(),
            jobs=jobs,
            event_loop_lag_p99=self.lag.p99,
            resident_byte_count=resident_bytes(),
            fleet=self.sources.fleet(),
        )

    async def _jobs(self) -> JobQueueState:
        if self.sources.jobs is None:
            return JobQueueState()
        try:
            return await self.sources.jobs()
        except BrokerError as error:
            _LOG.warning("the state of the job queue is unknown", extra={"reason": error.reason.value})
            return JobQueueState()


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def observe_memory(telemetry: Telemetry) -> Callable[[], None]:
    """Reports the process's memory as a metric until the returned function is called."""
    return telemetry.observe(catalog.MEMORY, lambda: [(resident_bytes(), {})])
