"""What tenants may do at most: requests in flight, and requests per second by a token bucket."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from broker.domain.pool import TenantLimits


@dataclass(frozen=True, slots=True)
class Excess:
    """The bound that a tenant has reached, its value, and in how many seconds there is room again, if that is known."""

    factor: str
    limit: float
    again: float | None


class _Usage:
    __slots__ = ("at", "in_flight", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.in_flight = 0
        self.tokens = tokens
        self.at = at


class Tenants:
    """Limits by tenant, and the use of those that have any."""

    def __init__(self, limits: Mapping[str, TenantLimits], default: TenantLimits) -> None:
        self._limits = dict(limits)
        self._default = default
        self.bounded = not all(map(_unbounded, (default, *limits.values())))
        """Whether anybody has limits. Where nobody has, there is nothing to ask or to tell."""
        self._usage: dict[str, _Usage] = {}

    def limits(self, tenant: str) -> TenantLimits:
        """The limits of a tenant, those of everybody when it has none of its own."""
        return self._limits.get(tenant, self._default)

    def excess(self, tenant: str, now: float) -> Excess | None:
        """Which bound keeps another request of the tenant out, or None."""
        if _unbounded(limits := self.limits(tenant)):
            return None
        usage = self._use(tenant, limits, now)
        if usage.in_flight >= limits.in_flight:
            return Excess("tenant_in_flight", limits.in_flight, None)
        if usage.tokens < 1.0:
            return Excess("tenant_rate", limits.rate, (1.0 - usage.tokens) / limits.rate)
        return None

    def enter(self, tenant: str, now: float) -> None:
        """A request was let in, to run or to wait."""
        if _unbounded(limits := self.limits(tenant)):
            return
        usage = self._use(tenant, limits, now)
        usage.in_flight += 1
        usage.tokens -= 1.0

    def leave(self, tenant: str) -> None:
        """A request that was let in has ended."""
        if (usage := self._usage.get(tenant)) is not None:
            usage.in_flight -= 1

    def _use(self, tenant: str, limits: TenantLimits, now: float) -> _Usage:
        usage = self._usage.get(tenant)
        if usage is None:
            self._sweep(now)
            usage = self._usage[tenant] = _Usage(limits.burst, now)
        elif math.isfinite(limits.rate):
            usage.tokens = min(limits.burst, usage.tokens + limits.rate * (now - usage.at))
        else:
            usage.tokens = math.inf
        usage.at = now
        return usage

    def _sweep(self, now: float) -> None:
        """Forgets those whose bucket is full again, once there are many."""
        if len(self._usage) < 4096:
            return
        for tenant, usage in list(self._usage.items()):
            limits = self.limits(tenant)
            if not usage.in_flight and usage.tokens + limits.rate * (now - usage.at) >= limits.burst:
                del self._usage[tenant]


def _unbounded(limits: TenantLimits) -> bool:
    return math.isinf(limits.in_flight) and math.isinf(limits.rate)
