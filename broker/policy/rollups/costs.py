"""What sources are predicted to cost, in seconds: few figures, so that choices can be followed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.domain.measures import SKETCHES
from broker.domain.plan import Scan
from broker.domain.query import Condition, Filter, Operator
from broker.domain.rollup import Rollup, Span, Storage
from broker.policy.rollups.boundaries import beginning, ending


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that each source takes.

    ``live_seconds`` is the predicted time of the whole scan without rollups. Of it ``live`` (at most) is spent once,
    however much is read; the rest grows with the time range. ``extent`` says between which instants the rows are; where
    the range has no bound on a side, and that is not given, they are taken to lie where segments are. Every span that
    is read live adds ``live_span``, and there are at most ``max_live_spans``.

    A rollup costs ``segments`` or ``table``, by how it is stored, for every stored row ``segment_row`` or ``table_row``
    with ``sketch_row`` for each sketch in it, and ``piece`` for every span. A table is indexed by its dimensions in
    order: each equality with one of the first of them leaves ``equality`` of its rows.

    The defaults were measured on two cores: a call into a worker process takes 0.2 ms, mapping and grouping a small
    segment the rest of a millisecond; Polars groups two million rows in 3 to 30 ms, PostgreSQL in 430 ms; a KLL sketch
    merges in 1.4 µs; PostgreSQL needs 0.15 ms for a small indexed read, and the way there and back is as long.
    """

    live_seconds: float
    extent: Span | None = None
    live: float = 1e-3
    live_span: float = 1e-4
    max_live_spans: int = 8
    piece: float = 5e-5
    segments: float = 1e-3
    segment_row: float = 1e-8
    table: float = 5e-4
    table_row: float = 2.2e-7
    sketch_row: float = 1.4e-6
    equality: float = 0.05

    @classmethod
    def predicted(cls, live_seconds: float, extent: Span | None = None) -> Costs:
        """The defaults beside a predicted live duration."""
        return cls(max(live_seconds, 0.0), extent)

    @property
    def live_fixed(self) -> float:
        """What is spent once when anything is read live."""
        return min(self.live, self.live_seconds)

    def live_rate(self, extent: Span) -> float:
        """Live seconds per microsecond, when all rows of the scan lie within the extent."""
        return (self.live_seconds - self.live_fixed) / max(extent.hi - extent.lo, 1)

    def fixed(self, rollup: Rollup) -> float:
        """What is spent whenever the rollup is begun to be read."""
        return self.segments if rollup.storage is Storage.SEGMENTS else self.table

    def rows(self, scan: Scan, parts: Sequence[Filter]) -> Callable[[Rollup], float]:
        """Gives the seconds for each row that a rollup stores in the range; ``parts`` are the filter's conjuncts."""
        segments = self.segment_row + self.sketch_row * sum(m.kind in SKETCHES for m in scan.leaves)
        equal = {
            part.member: min(1.0, self.equality * len(part.values))
            for part in parts
            if isinstance(part, Condition) and part.operator in (Operator.EQ, Operator.IN)
        }

        def row(rollup: Rollup) -> float:
            if rollup.storage is Storage.SEGMENTS:
                return segments
            share = self.table_row
            if rollup.storage is Storage.TABLE:
                for dimension in rollup.dimensions:
                    if dimension not in equal:
                        break
                    share *= equal[dimension]
            return share

        return row

    def extent_of(self, span: Span, stored: Span) -> Span:
        """Between which instants of a span the rows are; ``stored`` is where segments are."""
        known = self.extent or Span(beginning(span.lo, stored.lo), ending(span.hi, stored.hi))
        return Span(max(span.lo, known.lo), min(span.hi, known.hi))
