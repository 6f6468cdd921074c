"""Recording the metrics of the cache; part of :class:`broker.telemetry.meters.Meters`."""

from __future__ import annotations

from opentelemetry.metrics import Counter, Histogram

from broker.telemetry import catalog_cache as c
from broker.telemetry import names as n


class CacheMeters:
    """The metrics of the cache, by the names of the instruments."""

    _counters: dict[str, Counter]
    _histograms: dict[str, Histogram]

    def cache_eviction(self, tier: str, reason: str, count: int = 1) -> None:
        """Answers that are gone or were not taken: ``room``, ``corrupt`` or ``unwritten``."""
        self._counters[c.EVICTIONS.name].add(count, {n.TIER: tier, n.REASON: reason})

    def cache_refresh(self, outcome: str) -> None:
        """A held answer was ``read`` again, or was not: ``refused``, ``deferred``, ``failed`` or ``dropped``."""
        self._counters[c.REFRESHES.name].add(1, {n.OUTCOME: outcome})

    def change_look(self, outcome: str, seconds: float) -> None:
        """A look at changes: ``quiet``, ``news``, ``blind`` where there is nothing to be seen, or ``failed``."""
        self._histograms[c.LOOK_DURATION.name].record(seconds, {n.OUTCOME: outcome})
