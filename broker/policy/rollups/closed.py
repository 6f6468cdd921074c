"""What proves that the rows of a span are the same in two snapshots: a segment that is current and clean in both.

No mark concerns a clean segment, so its span holds the rows from which it was built. Where two snapshots find the very
same version clean, the rows are the same in both, whatever was marked, built and swept between them. A segment that is
sealed proves nothing of the tables: their rows may be deleted. A rollup whose upkeep was only promised
(``append_only``, ``change_token``) proves nothing either, and neither does one whose definition, tables, columns or
triggers are not those that it was built for: its coverage is unusable.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.domain.fingerprint import fingerprint
from broker.domain.model import Dataset
from broker.domain.rollup import Coverage, Rollup, Segment, Span, Storage, Tracking
from broker.policy.rollups.definition import definition


def provers(dataset: Dataset) -> tuple[Rollup, ...]:
    """The rollups whose segments may prove something."""
    return tuple(
        rollup
        for rollup in dataset.rollups.values()
        if rollup.tracking is Tracking.TRIGGERS and rollup.storage is not Storage.EXTERNAL
    )


def proof(dataset: Dataset, rollup: Rollup, coverage: Coverage, span: Span) -> str:
    """A text that two snapshots share only where the rows of the span are the same; "" where nothing proves that."""
    if coverage.unusable is not None or coverage.lateness is not None:
        return ""
    if any(dirty.lo < span.hi and span.lo < dirty.hi for dirty in coverage.dirty):
        return ""
    segments = [each for each in coverage.segments if each.span.lo < span.hi and span.lo < each.span.hi]
    if not _covered(segments, span) or any(segment.sealed for segment in segments):
        return ""
    versions = [(each.id, each.version, each.as_of) for each in segments]
    return fingerprint(dataset.name, rollup.name, definition(dataset, rollup), versions)


def _covered(segments: Iterable[Segment], span: Span) -> bool:
    """Whether segments, which are ascending and disjoint, leave no gap in the span."""
    at = span.lo
    for segment in segments:
        if segment.span.lo > at:
            return False
        at = segment.span.hi
    return at >= span.hi > span.lo
