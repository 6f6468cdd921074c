"""What was last seen of rollups: enough to answer without the database, as of that look at the best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.domain.model import Dataset
from broker.domain.rollup import Coverage, Rollup, Segment, Span, Storage

MOST_BEFORE = 2
"""Replaced versions of a partition that are remembered."""

Replaced = Mapping[Span, tuple[Segment, ...]]
"""Versions of partitions that others have replaced, the newest first."""


@dataclass(frozen=True, slots=True)
class Look:
    """What all rollups of a dataset covered at the instant ``as_of``.

    ``before`` has, by rollup, versions that were replaced since: a version that was built a moment ago may not be here
    yet. Of a rollup that may not be used there are none, whatever its versions were.
    """

    as_of: datetime
    coverage: Mapping[str, Coverage]
    before: Mapping[str, Replaced] = field(default_factory=dict)

    def segments(self, dataset: Dataset) -> Iterator[tuple[Rollup, Segment]]:
        """All versions, the newest partitions first."""
        for name, each in self.coverage.items():
            if (rollup := dataset.rollups.get(name)) is None or rollup.storage is not Storage.SEGMENTS:
                continue
            before = self.before.get(name, {})
            for segment in reversed(each.segments):
                for version in (segment, *before.get(segment.span, ())):
                    yield rollup, version

    def then(self, as_of: datetime, coverage: Iterable[Coverage]) -> Look:
        """The next look."""
        found = {each.rollup: each for each in coverage}
        before = {}
        for name, new in found.items():
            old, kept = self.coverage.get(name), self.before.get(name, {})
            if new.unusable is not None or old is None:
                continue
            if old.segments != new.segments:
                kept = _replaced(old, new, kept)
            if kept:
                before[name] = kept
        return Look(as_of, found, before)


def _replaced(old: Coverage, new: Coverage, before: Replaced) -> Replaced:
    current = {segment.span: segment for segment in new.segments}
    found: dict[Span, tuple[Segment, ...]] = {}
    for segment in old.segments:
        now, kept = current.get(segment.span), before.get(segment.span, ())
        if now is None:
            continue
        if now != segment:
            kept = (segment, *kept)[:MOST_BEFORE]
        if kept:
            found[segment.span] = kept
    return found
