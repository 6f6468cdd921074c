"""The four executor pools and the limits of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PoolName(StrEnum):
    """An executor pool: separate seats, database connections and worker processes."""

    DASHBOARD = "dashboard"
    EXPLORATION = "exploration"
    JOB = "job"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Limits of one pool.

    ``in_flight`` caps the requests admitted at once, ``queue`` those waiting, ``tenant_queue`` those of one tenant;
    ``connections`` and ``workers`` size the database pool and the process pool; ``wait_fraction`` is the share of the
    remaining time that may be spent waiting; ``worker_memory`` is in bytes; ``replica_dsn`` names a read-only replica,
    empty meaning the primary.
    """

    in_flight: int
    queue: int
    connections: int
    workers: int
    wait_fraction: float = 0.25
    worker_memory: int = 1 << 30
    replica_dsn: str = ""
    tenant_queue: int = 200
