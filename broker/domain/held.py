"""An answer that is held: its immutable table, and of its status what does not change with time.

A held answer says nothing of its age or freshness; whoever gives it out works that out for the reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.domain.answer import AnswerStatus, Table
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
class Held:
    """An answer as a cache keeps it.

    ``status`` is that of the answer as it was read, without what belonged to that one call: ladder, queue, request.
    ``moment`` names what had been seen of the dataset's changes before the answer was read, "" where they are not
    tracked. ``seconds`` is what it took to read, which says when to read it again.
    """

    key: str
    table: Table
    status: AnswerStatus
    reach: Reach
    moment: str = ""
    seconds: float = 0.0

    @property
    def as_of(self) -> datetime:
        """Instant of the snapshot that it was read from."""
        return self.status.as_of
