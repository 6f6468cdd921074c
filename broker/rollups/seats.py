"""Seats for building and comparing rollups: one at a time, after everybody who waits for an answer."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.policy.admission.values import AdmissionRequest
from broker.rollups.refresh import Seat
from broker.runtime.admission import Admission

TENANT = "rollups"
"""Whose share of the pool builds take; no caller pays for them."""


def rollup_seats(admission: Admission, pool: PoolName = PoolName.JOB) -> Seat:
    """Seats of a pool at the lowest criticality. Builds have no deadline: they wait as long as it takes."""
    numbers = count(1)

    @asynccontextmanager
    async def seat(name: str) -> AsyncIterator[None]:
        request = AdmissionRequest(
            id=f"rollup/{name}/{next(numbers)}",
            tenant=TENANT,
            pool=pool,
            deadline_at=math.inf,
            criticality=Criticality.SHEDDABLE,
        )
        async with admission.permit(request):
            yield

    return seat
