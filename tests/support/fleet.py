"""Members of a fleet for tests."""

from __future__ import annotations

from broker.domain.fleet import Claim, MemberKind, Report, Usage
from broker.domain.pool import PoolName

DASHBOARD, EXPLORATION, JOB = PoolName.DASHBOARD, PoolName.EXPLORATION, PoolName.JOB
SHARES = {DASHBOARD: (0.5, 0.2), EXPLORATION: (0.3, 0.5), JOB: (0.2, 0.1)}
"""Share of each pool, and the part of it that is kept."""


def claim(pool: PoolName, seats: int) -> Claim:
    return Claim(pool, seats, *SHARES[pool])


def member(
    name: str,
    dashboard: int = 0,
    exploration: int = 0,
    *,
    running: int = 0,
    progress: float = 1.0,
    wished: int = 32,
    low: int = 32,
    high: int = 32,
    usage: tuple[Usage, ...] = (),
) -> Report:
    """A broker that wants so many seats for dashboards and explorations."""
    claims = (claim(DASHBOARD, dashboard), claim(EXPLORATION, exploration))
    return Report(name, MemberKind.BROKER, "host", running, progress, wished, low, high, claims, usage)


def worker(name: str, jobs: int = 0, *, wished: int = 32) -> Report:
    """A worker that wants so many seats for jobs."""
    return Report(name, MemberKind.WORKER, "host", 0, 1.0, wished, 32, 32, (claim(JOB, jobs),))
