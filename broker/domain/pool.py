"""The four executor pools and the limits of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

PRIMARY = "primary"
"""Name of the database that pools read from unless they name a replica."""


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
    empty meaning the primary; ``fallback`` lets the pool read the primary while its replica cannot be reached.

    Of the seats of its backend the pool owns a ``share``, relative to the shares of the other pools. Of what it owns
    and does not use, the part ``lendable`` may be used by other pools for requests that end within ``reclaim`` seconds;
    ``reserved`` seats are never lent. It may itself use up to ``borrow`` times what it owns. ``tenant_share`` is the
    part of the seats that one tenant may use while others wait. A pool with the share 0 stands outside: its seats are
    its own ``in_flight``.
    """

    in_flight: int
    queue: int
    connections: int
    workers: int
    wait_fraction: float = 0.25
    worker_memory: int = 1 << 30
    replica_dsn: str = ""
    tenant_queue: int = 200
    share: float = 1.0
    lendable: float = 0.5
    borrow: float = math.inf
    reclaim: float = 2.0
    reserved: int = 0
    tenant_share: float = 0.75
    fallback: bool = False


class LimitMode(StrEnum):
    """How the number of seats follows the backend: not at all, by its speed, or only in what is reported."""

    STATIC = "static"
    ADAPTIVE = "adaptive"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class BackendLimits:
    """Seats of one backend: ``seats`` nominally, between ``floor`` and ``ceiling`` where the limit adapts.

    ``memory`` in bytes bounds the predicted peaks of what runs together; 0 for no bound.
    """

    seats: int
    floor: int = 2
    ceiling: int = 400
    memory: int = 0
    mode: LimitMode = LimitMode.STATIC


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What one tenant may do, in every pool.

    ``weight`` is its share beside other tenants; ``in_flight`` bounds its requests that run or wait; ``rate`` its
    requests per second on average, with a ``burst`` at once. Infinite means no bound.
    """

    weight: float = 1.0
    in_flight: float = math.inf
    rate: float = math.inf
    burst: float = 10.0
