"""What proposed rollups will do, by the rules and the covers that route questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.domain.model import Dataset
from broker.domain.plan import Plan, Scan
from broker.domain.query import Grain
from broker.domain.rollup import Cover, Coverage, Rollup, Segment, SegmentFile
from broker.policy.rollups.candidates import Candidates
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.cover import cover
from broker.policy.rollups.scan import partitions
from broker.policy.rollups.sizing import Size, SourceFacts, size_of

_ONCE = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rollup, how large it will be, how many of the questions it has a part in, and the seconds that these save."""

    rollup: Rollup
    size: Size
    hit_count: int
    saved_seconds: float


@dataclass(frozen=True, slots=True)
class Advice:
    """What is proposed for a dataset, and what it does together with the rollups that there are already.

    ``hit_count`` of ``question_count`` questions will be answered from rollups, wholly or with live pieces; their
    ``live_seconds`` become ``left_seconds``.
    """

    dataset: Dataset
    proposals: tuple[Proposal, ...]
    question_count: int
    hit_count: int
    live_seconds: float
    left_seconds: float

    @property
    def hit_rate(self) -> float:
        """Share of the questions that rollups will answer."""
        return self.hit_count / self.question_count if self.question_count else 0.0


@dataclass(frozen=True, slots=True)
class Predicted:
    """Questions that rollups answer, and the seconds that are left; by rollup, its questions and seconds saved."""

    answered: int
    left: float
    hits: Mapping[str, int]
    saved: Mapping[str, float]


def predicted(dataset: Dataset, asked: Iterable[tuple[Plan, int, float]], facts: SourceFacts) -> Predicted:
    """Routes every question (its plan, how often it is asked, seconds that it takes live in all) over built rollups."""
    index = Candidates(dataset)
    built = {rollup.name: _built(dataset, rollup, facts) for rollup in dataset.rollups.values()}
    hits: dict[str, int] = {}
    saved: dict[str, float] = {}
    answered, left = 0, 0.0
    for plan, count, seconds in asked:
        each = seconds / max(count, 1) / len(plan.scans)
        covers = [_cover(index, scan, built, Costs.predicted(each, facts.extent)) for scan in plan.scans]
        used = {piece.rollup for found in covers for piece in found.rollups}
        if used:
            now = count * sum(found.cost for found in covers)
            answered += count
            left += min(now, seconds)
            for name in used:
                hits[name] = hits.get(name, 0) + count
                saved[name] = saved.get(name, 0.0) + max(0.0, seconds - now)
        else:
            left += seconds
    return Predicted(answered, left, hits, saved)


def _cover(index: Candidates, scan: Scan, built: Mapping[str, Coverage], costs: Costs) -> Cover:
    accepted = index.check(scan).accepted
    times = [rollup.time for rollup in accepted]
    time = index.dataset.default_time if index.dataset.default_time in times else next(iter(times), "")
    along = tuple(rollup for rollup in accepted if rollup.time == time)
    return cover(scan, along, built, costs)


def _built(dataset: Dataset, rollup: Rollup, facts: SourceFacts) -> Coverage:
    """The coverage of the rollup when all of it is built and nothing has changed since."""
    size = size_of(dataset, rollup, facts)
    spans = partitions(dataset, rollup, facts.extent)
    total = max(1, facts.extent.hi - facts.extent.lo)
    segments = []
    for i, span in enumerate(spans):
        share = (min(span.hi, facts.extent.hi) - max(span.lo, facts.extent.lo)) / total
        files = tuple(_file(grain, rows * share) for grain, rows in size.rows.items())
        rows = files[0].row_count
        segments.append(Segment(i, span, 1, _ONCE, rows, round(size.byte_count * share), files=files))
    return Coverage(rollup.name, tuple(segments))


def _file(grain: Grain, rows: float) -> SegmentFile:
    return SegmentFile(grain, max(1, round(rows)), 0, "")
