"""An answer that is held: its immutable table, and of its status what does not change with time.

A held answer says nothing of its age or freshness; whoever gives it out works that out for the reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.domain.answer import AnswerStatus, Table
from broker.domain.query import AbsoluteRange, Filter, Grain
from broker.domain.rollup import ALWAYS, Span


@dataclass(frozen=True, slots=True)
class Reach:
    """What a held answer depends on, so that changes elsewhere leave it alone.

    ``spans`` has, by time dimension, the interval that was read of it; a dimension that is not named was read whole.
    """

    dataset: str
    rollups: tuple[str, ...] = ()
    spans: Mapping[str, Span] = field(default_factory=dict)

    def span(self, time: str) -> Span:
        """What was read along a time dimension."""
        return self.spans.get(time, ALWAYS)


@dataclass(frozen=True, slots=True)
class Content:
    """What the rows of a held answer are, beside what its columns say, so that other questions may be answered by them.

    ``scope`` names the definition of the dataset and the rows that the reader may see; ``question`` the question
    without its limit. Of the ``time`` dimension the rows have what lies in ``bounds`` (None: everything), by buckets of
    ``grain`` in ``zone`` where there is one. ``filter`` are conjuncts in normal form. The groups are all there unless a
    ``limit`` cut them off, or something else did and they are not ``whole``; ``filled`` rows may stand for nothing.
    ``broker.policy.query_json`` writes it as JSON.
    """

    scope: str
    question: str
    time: str = ""
    bounds: AbsoluteRange | None = None
    grain: Grain | None = None
    zone: str = "UTC"
    filter: tuple[Filter, ...] = ()
    limit: int = 0
    whole: bool = True
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """An answer as a cache keeps it.

    ``status`` is that of the answer as it was read, without what belonged to that one call: ladder, queue, request.
    ``moment`` names what had been seen of the dataset's changes before the answer was read, "" where they are not
    tracked. ``seconds`` is what it took to read, which says when to read it again. Without ``content`` it answers
    nothing but its own question.
    """

    key: str
    table: Table
    status: AnswerStatus
    reach: Reach
    moment: str = ""
    seconds: float = 0.0
    content: Content | None = None

    @property
    def as_of(self) -> datetime:
        """Instant of the snapshot that it was read from."""
        return self.status.as_of


@dataclass(frozen=True, slots=True)
class Selection:
    """Held answers to be removed; what is empty or None does not restrict. ``rollup`` needs its ``dataset``."""

    dataset: str = ""
    rollup: str = ""
    span: Span | None = None

    def takes(self, held: Held) -> bool:
        """Whether an answer is among them."""
        return self.reaches(held.reach)

    def reaches(self, reach: Reach) -> bool:
        """Whether answers of this reach are among them; a span meets what was read along any time dimension."""
        if (self.dataset and reach.dataset != self.dataset) or (
            self.rollup and self.rollup not in reach.rollups
        ):
            return False
        if self.span is None or not reach.spans:
            return True
        return any(read.lo < self.span.hi and self.span.lo < read.hi for read in reach.spans.values())
