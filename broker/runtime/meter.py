"""Counts answers that take no seat against their tenant's rate, because they too cost the event loop."""

from __future__ import annotations

from collections.abc import Mapping

from broker.domain.errors import BrokerError
from broker.domain.pool import PoolName, TenantLimits
from broker.domain.principal import Principal
from broker.policy.admission.refusals import Standing, refusal_error
from broker.policy.admission.tenants import Tenants
from broker.policy.admission.values import RefusalReason, Refused, Stage
from broker.ports.clock import Clock


class Meter:
    """A bucket for each tenant beside that of the admission, of the same rate and burst."""

    def __init__(self, tenants: Mapping[str, TenantLimits], default: TenantLimits, clock: Clock) -> None:
        self._tenants, self._clock = Tenants(tenants, default), clock

    def take(self, pool: PoolName, principal: Principal) -> BrokerError | None:
        """Counts one call; TENANT_QUOTA when the tenant has had as many as it may, and then none is counted."""
        tenant, now = principal.tenant, self._clock.monotonic()
        excess = self._tenants.excess(tenant, now)
        if excess is None:
            self._tenants.enter(tenant, now)
            self._tenants.leave(tenant)
            return None
        refused = Refused(
            "",
            pool,
            RefusalReason.TENANT_QUOTA,
            Stage.ARRIVAL,
            excess.factor,
            excess.limit,
            pushback=excess.again,
        )
        return refusal_error(refused, Standing(tenant, 0.0, "", 0, 0))
