"""What one snapshot has shown of rollups: what it may use of them, and what is sealed."""

from __future__ import annotations

from collections.abc import Mapping

from broker.domain.model import Dataset
from broker.domain.rollup import ALWAYS, Coverage, Span
from broker.pipeline.routes import Route
from broker.policy.rollups.seals import Seals, seals_of
from broker.ports.store import Snapshot

_NOTHING: Mapping[str, Coverage] = {}


class Seen:
    """The coverage that one snapshot has shown so far: the panels of a dashboard mostly ask for the same."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._found: dict[str, tuple[Span, dict[str, Coverage]]] = {}

    async def coverage(self, route: Route) -> Mapping[str, Coverage]:
        """What of the route's rollups the snapshot may use, within the route's span at least."""
        dataset = route.scans[0].scan.dataset
        span, found = self._found.get(dataset.name, (route.span, {}))
        wider = Span(min(span.lo, route.span.lo), max(span.hi, route.span.hi))
        missing = [r for r in route.rollups if wider != span or r.name not in found]
        if missing:
            kept = {} if wider != span else found
            coverages, _ = await self._snapshot.coverage(dataset, missing, wider)
            found = {**kept, **{each.rollup: each for each in coverages}}
            self._found[dataset.name] = wider, found
        return found

    async def seals(
        self, dataset: Dataset, known: Seals | None = None, coverage: Mapping[str, Coverage] = _NOTHING
    ) -> Seals:
        """The spans, by time dimension, whose rows the tables may no longer have.

        Those that are ``known``, unless the ``coverage`` that the snapshot has shown has others.
        """
        if known is not None:
            shown = seals_of(dataset, coverage.values())
            if all(set(spans) <= set(known.get(time, ())) for time, spans in shown.items()):
                return known
        rollups = tuple(dataset.rollups.values())
        found = await self._snapshot.coverage(dataset, rollups, ALWAYS) if rollups else ((), "")
        return seals_of(dataset, found[0])
