"""What a broker process is doing, as values for operators; see the proto messages of the same names.

Durations are in seconds. Counts without a period are since the start of the process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from broker.domain.pool import PoolName


class Breaker(StrEnum):
    """State of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class TenantState:
    """One tenant in a pool; ``share`` is its part of the served work of late, 0 to 1."""

    tenant: str
    queue_length: int = 0
    seats_used: int = 0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolState:
    """An executor pool: seats, queue, database connections and worker processes."""

    name: PoolName
    seat_limit: int
    seats_used: int = 0
    seats_lent: int = 0
    queue_length: int = 0
    oldest_wait: float = 0.0
    connection_count: int = 0
    connection_limit: int = 0
    worker_count: int = 0
    worker_task_count: int = 0
    admitted_count: int = 0
    refused_count: int = 0
    worker_restart_count: int = 0
    tenants: tuple[TenantState, ...] = ()


@dataclass(frozen=True, slots=True)
class BackendState:
    """A database; ``replica_lag`` is None on a primary."""

    name: str
    breaker: Breaker = Breaker.CLOSED
    limit: float = 0.0
    relative_speed: float = 1.0
    seats_used: float = 0.0
    replica_lag: float | None = None
    server_version: str = ""
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class CacheState:
    """A cache tier."""

    name: str
    entry_count: int = 0
    byte_count: int = 0
    byte_limit: int = 0
    hit_count: int = 0
    miss_count: int = 0
    available: bool = True


@dataclass(frozen=True, slots=True)
class JobWorkerState:
    """A job worker process with a live lease."""

    worker_id: str
    host: str = ""
    slot_count: int = 0
    running_count: int = 0
    lease_expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobQueueState:
    """The job queue."""

    queued_count: int = 0
    running_count: int = 0
    dead_lettered_count: int = 0
    oldest_queued_age: float = 0.0
    workers: tuple[JobWorkerState, ...] = ()


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the job queue, as a job to be submitted finds it; counts stop at the bounds that matter.

    ``tenant`` jobs of its tenant wait, the oldest for ``age`` seconds, ``queued`` in all, ``before`` of them go first.
    Living workers have ``slots`` for jobs and run ``running``; of late a job took ``seconds``, 0 when none is known.
    """

    tenant: int = 0
    age: float = 0.0
    queued: int = 0
    before: int = 0
    running: int = 0
    slots: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FleetMemberState:
    """A process that shares the seats of a backend; ``seats`` are leased to it, ``demand`` is what it could use."""

    instance_id: str
    kind: str
    host: str
    backend: str
    seats: int
    seats_used: int = 0
    demand: int = 0


@dataclass(frozen=True, slots=True)
class BrokerState:
    """A broker process at ``read_time``."""

    instance_id: str
    version: str
    start_time: datetime
    read_time: datetime
    draining: bool = False
    pools: tuple[PoolState, ...] = ()
    backends: tuple[BackendState, ...] = ()
    caches: tuple[CacheState, ...] = ()
    jobs: JobQueueState = field(default_factory=JobQueueState)
    event_loop_lag_p99: float = 0.0
    resident_byte_count: int = 0
    fleet: tuple[FleetMemberState, ...] = ()
