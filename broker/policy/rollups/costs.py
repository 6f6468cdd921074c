"""What sources are predicted to cost, in seconds: few figures, so that choices can be followed by hand."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.rollup import Span


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that each source takes.

    ``live_seconds`` is the predicted time of the whole scan without rollups; ``live`` of it (at most) does not depend
    on how much is read and is spent once, the rest grows with the time range. Where the range has no bound on a side,
    ``extent`` says between which instants the rows are; without it they are taken to lie where segments are. A rollup
    costs a fixed part, one for every ``piece``, and one for every stored row that is read, sketches apart.

    The defaults were measured on two cores: a call into a worker process takes 0.2 ms, mapping and grouping a small
    segment the rest of a millisecond; Polars groups two million rows in 3 to 30 ms, PostgreSQL in 430 ms; a KLL sketch
    merges in 1.4 µs; PostgreSQL needs 0.15 ms for a small indexed read and the statement's way there and back the rest.
    """

    live_seconds: float
    extent: Span | None = None
    live: float = 2e-3
    live_span: float = 1e-4
    max_live_spans: int = 8
    piece: float = 5e-5
    segments: float = 1e-3
    segment_row: float = 1e-8
    table: float = 5e-4
    table_row: float = 2.2e-7
    sketch_row: float = 1.4e-6
    selectivity: float = 1.0

    @classmethod
    def predicted(cls, live_seconds: float, extent: Span | None = None) -> Costs:
        """The defaults beside a predicted live duration."""
        return cls(live_seconds, extent)
