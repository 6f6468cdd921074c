"""Who was served how much of late."""

from __future__ import annotations

import math

HALF_LIFE = 60.0
MAX_TENANTS = 1024


class WorkLedger:
    """Seconds of work by tenant, halved every minute; remembers the busiest tenants only."""

    def __init__(self) -> None:
        self._work: dict[str, tuple[float, float]] = {}

    def add(self, tenant: str, seconds: float, now: float) -> None:
        """Books work that was done for a tenant."""
        self._work[tenant] = (self._value(tenant, now) + seconds, now)
        if len(self._work) > 2 * MAX_TENANTS:
            busiest = sorted(self._work, key=lambda name: self._value(name, now), reverse=True)[:MAX_TENANTS]
            self._work = {name: self._work[name] for name in busiest}

    def shares(self, now: float) -> dict[str, float]:
        """Every tenant's part of all work, 0 to 1."""
        values = {tenant: self._value(tenant, now) for tenant in self._work}
        total = sum(values.values())
        return {tenant: value / total for tenant, value in values.items()} if total > 0 else {}

    def _value(self, tenant: str, now: float) -> float:
        value, at = self._work.get(tenant, (0.0, now))
        return value * math.pow(0.5, (now - at) / HALF_LIFE)
