"""What a server protects itself with: a guard that watches its process, and a door that asks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from broker.app.process import Process
from broker.domain.pool import PoolLimits, PoolName
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
    own: Process, admission: Admission, limits: Mapping[PoolName, PoolLimits], memory_limit: int
) -> Iterator[Protection]:
    """Watches the process; ``memory_limit`` is in bytes, 0 for that of its container or machine."""
    gate = Gate()
    guard = Guard(own.clock, own.telemetry, memory_share(memory_limit), gate.cut)
    forget = own.lag.listen(guard.observe)
    try:
        yield Protection(guard, gate, Door(guard, admission, limits))
    finally:
        forget()
        guard.close()
