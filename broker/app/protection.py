"""What a server protects itself with: a guard that watches its process, and a door that asks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from broker.app.process import Process
from broker.config.settings import ServerSettings
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.guard import Marks, SelfDefence
from broker.runtime.admission import Admission
from broker.runtime.guard import Door, Guard
from broker.runtime.memory import memory_share
from broker.transport.drain import Gate
from broker.transport.health import Check


@dataclass(frozen=True, slots=True)
class Protection:
    """The parts: the gate holds the calls that run, the door decides about those that come."""

    guard: Guard
    gate: Gate
    door: Door

    def before(self, check: Check) -> Check:
        """A check that also fails while the event loop is stuck, so that load balancers send calls elsewhere."""

        async def both() -> None:
            await self.guard.check()
            await check()

        return both


@contextmanager
def protected(
    own: Process, admission: Admission, limits: Mapping[PoolName, PoolLimits], settings: ServerSettings
) -> Iterator[Protection]:
    """What a server needs; its guard watches once the server serves."""
    gate = Gate()
    defence = SelfDefence(Marks.of_lag(settings.lag_limit))
    guard = Guard(own.clock, own.telemetry, memory_share(settings.memory_limit), gate.cut, defence)
    try:
        yield Protection(guard, gate, Door(guard, admission, limits))
    finally:
        guard.close()
