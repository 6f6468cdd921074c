"""Tells the admission once a second what its backends and the machine say about themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from broker.policy.admission.values import Pressure
from broker.telemetry import catalog
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading

PERIOD = 1.0
"""Seconds between two readings."""


class Gauge(Protocol):
    """A backend that can be asked."""

    async def read(self) -> Pressure | None:
        """Its load now, None when it does not tell. Bounded in time; raises nothing."""
        ...


class PressureWatch:
    """Asks every backend, all at once, and the machine. ``processors`` and ``memory`` read shares in use."""

    def __init__(
        self,
        gauges: Mapping[str, Gauge],
        processors: Callable[[], float | None],
        memory: Callable[[], float],
        tell: Callable[[str, Pressure], None],
        telemetry: Telemetry,
    ) -> None:
        self._gauges, self._tell = dict(gauges), tell
        self._processors, self._memory = processors, memory
        self._latest: dict[str, Pressure] = {}
        self._forget = telemetry.observe(catalog.BACKEND_SESSIONS, self._sessions)

    async def run(self) -> None:
        """Reads and tells until it is cancelled."""
        try:
            while True:
                await self.once()
                await asyncio.sleep(PERIOD)
        finally:
            self._forget()

    async def once(self) -> None:
        """One reading of everything."""
        told = await asyncio.gather(*(gauge.read() for gauge in self._gauges.values()))
        processors, memory = self._processors(), self._memory()
        for name, news in zip(self._gauges, told, strict=True):
            pressure = replace(news or Pressure(), cpu=processors, memory=memory)
            self._latest[name] = pressure
            self._tell(name, pressure)

    def _sessions(self) -> list[Reading]:
        return [
            (count, {n.BACKEND: name, n.STATE: state})
            for name, news in tuple(self._latest.items())
            for state, count in (
                ("active", news.active),
                ("lock", news.lock_waiting),
                ("io", news.io_waiting),
            )
            if count is not None
        ]
