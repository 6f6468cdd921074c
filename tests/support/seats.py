"""An admission on virtual time whose core remembers how work ended."""

from __future__ import annotations

import asyncio

from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import AdmissionRequest, Decision, Outcome
from broker.runtime.admission import Admission
from broker.telemetry.instruments import Telemetry
from tests.support.virtual_time import VirtualClock

POOL = PoolName.DASHBOARD


class Recording(Scheduler):
    """The real core; remembers how work ended."""

    def __init__(self, seats: int, queue: int = 100) -> None:
        limits = PoolLimits(seats, queue, 1, 1)
        super().__init__({POOL: limits}, seed=1)
        self.finished: list[tuple[str, Outcome, float]] = []

    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        self.finished.append((id, outcome, seconds))
        return super().finish(id, outcome, seconds, now)


def shell(core: Scheduler, telemetry: Telemetry | None = None) -> Admission:
    return Admission(core, VirtualClock(), telemetry or Telemetry.off())


def ask(id: str, deadline: float = 100.0, tenant: str = "a") -> AdmissionRequest:
    return AdmissionRequest(id, tenant, POOL, deadline)


async def hold(admission: Admission, request: AdmissionRequest, seconds: float) -> float:
    async with admission.permit(request) as permit:
        await asyncio.sleep(seconds)
        return permit.wait
