"""Who was served how much of late."""

from __future__ import annotations

import math

HALF_LIFE = 60.0
MAX_TENANTS = 1024
REBASE_AFTER = 100 * HALF_LIFE
FORGOTTEN = 1e-9


class WorkLedger:
    """Seconds of work by tenant, halved every minute; remembers the busiest tenants only.

    Instead of making all earlier work less as time passes, later work is booked as more ("forward decay", Cormode et
    al., ICDE 2009): only ratios are ever asked for. Now and then the books begin anew at the present, in smaller units.
    """

    def __init__(self) -> None:
        self._work: dict[str, float] = {}
        self._origin = -math.inf

    def add(self, tenant: str, seconds: float, now: float) -> None:
        """Books work that was done for a tenant."""
        origin = self._origin
        if now - origin > REBASE_AFTER:
            self._rebase(now)
            origin = now
        work = self._work
        work[tenant] = work.get(tenant, 0.0) + seconds * 2.0 ** ((now - origin) / HALF_LIFE)
        if len(work) > 2 * MAX_TENANTS:
            busiest = sorted(work, key=work.__getitem__, reverse=True)[:MAX_TENANTS]
            self._work = {name: work[name] for name in busiest}

    def shares(self) -> dict[str, float]:
        """Every tenant's part of all work, 0 to 1."""
        total = sum(self._work.values())
        return {tenant: value / total for tenant, value in self._work.items()} if total > 0 else {}

    def _rebase(self, now: float) -> None:
        unit = math.pow(2.0, min(now - self._origin, 2 * REBASE_AFTER) / HALF_LIFE)
        self._work = {name: value / unit for name, value in self._work.items() if value / unit > FORGOTTEN}
        self._origin = now
