"""Recording the metrics of rollups; part of :class:`broker.telemetry.meters.Meters`."""

from __future__ import annotations

from opentelemetry.metrics import Counter, Histogram

from broker.telemetry import catalog_rollups as c
from broker.telemetry import names as n


class RollupMeters:
    """The metrics of rollups, by the names of the instruments."""

    _counters: dict[str, Counter]
    _histograms: dict[str, Histogram]

    def rollup_answer(self, dataset: str, rollup: str, outcome: str, rule: str = "") -> None:
        """A rollup answered a scan ``whole`` or as a ``part``, or was ``rejected`` by a rule, its code given."""
        attributes = {n.DATASET: dataset, n.ROLLUP: rollup, n.OUTCOME: outcome, n.RULE: rule}
        self._counters[c.ANSWERS.name].add(1, attributes)

    def rollup_live_share(self, dataset: str, share: float) -> None:
        """Which part of its range, from 0 to 1, an answer from rollups read live."""
        self._histograms[c.LIVE_SHARE.name].record(share, {n.DATASET: dataset})

    def mirror_fetch(self, outcome: str, byte_count: int = 0) -> None:
        """A segment file was ``fetched`` or ``found`` on disk, or was ``corrupt``, ``gone`` or has ``failed``."""
        self._counters[c.FETCHES.name].add(1, {n.OUTCOME: outcome})
        if outcome == "fetched":
            self._counters[c.FETCHED.name].add(byte_count)

    def mirror_eviction(self, reason: str, count: int = 1) -> None:
        """Files left the mirror: ``space``, ``stale`` or ``unreadable``."""
        self._counters[c.EVICTIONS.name].add(count, {n.REASON: reason})

    def rollup_refresh(self, dataset: str, rollup: str, outcome: str, seconds: float, rows: int = 0) -> None:
        """A partition was ``built``, ``refreshed`` or found ``unchanged``, its build was ``lost`` or has ``failed``."""
        named = {n.DATASET: dataset, n.ROLLUP: rollup}
        self._histograms[c.REFRESH_DURATION.name].record(seconds, {**named, n.OUTCOME: outcome})
        self._counters[c.REFRESH_ROWS.name].add(rows, named)

    def rollup_quarantine(self, dataset: str, rollup: str) -> None:
        """A rollup was found to be wrong and answers no more."""
        self._counters[c.QUARANTINES.name].add(1, {n.DATASET: dataset, n.ROLLUP: rollup})

    def rollup_verification(self, dataset: str, outcome: str) -> None:
        """An answer was computed again: ``equal``, ``different``, ``skipped`` or ``failed``; or it was ``dropped``."""
        self._counters[c.VERIFICATIONS.name].add(1, {n.DATASET: dataset, n.OUTCOME: outcome})
