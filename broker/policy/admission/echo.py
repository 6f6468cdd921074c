"""Refusals that need not be decided again: until something is given back, the next one like it would end the same.

Under ten times the load nine of ten requests are refused, most of them between two that end. The first of them is read,
planned and decided; the others are refused with its numbers before they are read. A request is like it when it is of
the same tenant and pool, no more critical, and when even its whole remaining time would not allow the wait that was
expected then. Nothing is remembered for long, since predictions and queues change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.policy.admission.values import AdmissionRequest, RefusalReason, Refused, Stage

LIFETIME = 0.1
"""Seconds for which a refusal is remembered when nothing ends meanwhile."""
MOST = 1024
"""Tenants that are remembered; more of them are all read."""


@dataclass(frozen=True, slots=True)
class _Known:
    refused: Refused
    criticality: Criticality
    until: float


class Echo:
    """Refusals of late, by pool and tenant."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[PoolName, str], _Known] = {}

    def refused(self, request: AdmissionRequest, refused: Refused, now: float) -> None:
        """A request was refused; only a wait that is too long says something about the next one."""
        if (
            refused.reason is not RefusalReason.OVERLOADED
            or refused.stage is not Stage.ARRIVAL
            or not math.isfinite(refused.expected_wait)
            or request.attempt
        ):
            return
        key = refused.pool, request.tenant
        before = self._known.get(key)
        if before is not None and before.until > now and before.criticality > request.criticality:
            return
        if before is not None or len(self._known) < MOST:
            self._known[key] = _Known(refused, request.criticality, now + LIFETIME)

    def changed(self) -> None:
        """Something has ended, or seats were given otherwise: the next request is to be read."""
        self._known.clear()

    def again(
        self, pool: PoolName, tenant: str, criticality: Criticality, allowed_wait: float, now: float
    ) -> Refused | None:
        """The refusal for a request that has not been read and may wait ``allowed_wait`` seconds at the very most."""
        known = self._known.get((pool, tenant))
        if known is None or known.until <= now or criticality > known.criticality:
            return None
        return known.refused if known.refused.expected_wait > allowed_wait else None
