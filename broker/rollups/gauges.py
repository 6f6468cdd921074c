"""Gauges of what has changed since rollups were built, from the states that were last read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from broker.ports.clock import Clock
from broker.ports.rollups import RollupStatus
from broker.telemetry import catalog_rollups as catalog
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading


class RollupGauges:
    """Dirty intervals, and the age of the oldest segment of which a part has changed."""

    def __init__(self, clock: Clock, telemetry: Telemetry) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, str], RollupStatus] = {}
        self._observed: tuple[Callable[[], None], ...] = (
            telemetry.observe(catalog.DIRTY, self._dirty),
            telemetry.observe(catalog.LAG, self._lag),
        )

    def close(self) -> None:
        """Takes the gauges away."""
        for forget in self._observed:
            forget()

    def see(self, statuses: Iterable[RollupStatus]) -> None:
        """These are the states now; those of other rollups stay as they were."""
        for status in statuses:
            self._seen[status.rollup.dataset, status.rollup.name] = status

    def _dirty(self) -> list[Reading]:
        return [
            (sum(len(part.dirty) for part in status.partitions), _labels(status))
            for status in tuple(self._seen.values())
        ]

    def _lag(self) -> list[Reading]:
        now = self._clock.now()
        readings: list[Reading] = []
        for status in tuple(self._seen.values()):
            dirty = [part.segment.as_of for part in status.partitions if part.segment and part.dirty]
            age = (now - min(dirty)).total_seconds() if dirty else 0.0
            readings.append((max(0.0, age), _labels(status)))
        return readings


def _labels(status: RollupStatus) -> dict[str, str]:
    return {n.DATASET: status.rollup.dataset, n.ROLLUP: status.rollup.name}
