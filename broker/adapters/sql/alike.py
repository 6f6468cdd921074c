"""Statements over rollups' tables that are alike: of the next only the values are found, in the order of its places."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from broker.adapters.sql.compiler import Recent
from broker.adapters.sql.filters import Shape, as_is, shape_of
from broker.adapters.sql.shape import beginnings
from broker.adapters.sql.statements import Statement
from broker.adapters.sql.values import Value
from broker.domain.model import Dataset
from broker.domain.plan import Scan
from broker.domain.rollup import Rollup, Span, instant

MOST = 1_000
"""Statements that are remembered."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A statement, what it is over, and the shape of its filter."""

    dataset: Dataset
    rollup: Rollup
    statement: Statement
    filter: Shape


class RolledStatements:
    """The statements of scans that are alike, latest used last: what differs in them are values."""

    def __init__(self) -> None:
        self._known: Recent[Hashable, _Known] = Recent(MOST)

    def again(self, alike: Hashable, scan: Scan, rollup: Rollup, spans: Sequence[Span]) -> Statement | None:
        """The statement of a scan, if that of one that is alike is known."""
        found = self._known.get((alike, rollup.name))
        if found is None or found.dataset is not scan.dataset or found.rollup is not rollup:
            return None
        told = _values(scan, spans)
        if told is None or told[1] != found.filter:
            return None
        before, values = found.statement, told[0]
        limit = before.row_limit
        if limit is not None and scan.grid is not None:
            limit = len(scan.grid.starts)
        return Statement(before.compiled, values, before.shape, before.dataset, limit)

    def keep(
        self, alike: Hashable, scan: Scan, rollup: Rollup, spans: Sequence[Span], statement: Statement
    ) -> None:
        """Remembers a statement, if its values are what those of others can be made of."""
        told = _values(scan, spans)
        if told is not None and told[0] == statement.values:
            self._known.put((alike, rollup.name), _Known(scan.dataset, rollup, statement, told[1]))


def _values(scan: Scan, spans: Sequence[Span]) -> tuple[tuple[Value, ...], Shape] | None:
    """The values of a statement over one finite span without row policies, and the shape of its filter."""
    bounds, (span, *others) = scan.span, spans
    start, end = instant(max(span.lo, bounds.lo)), instant(min(span.hi, bounds.hi))
    if others or scan.policies or start is None or end is None or start >= end:
        return None
    assert scan.time is not None, "bounds are of the time dimension"
    values: list[Value] = [beginnings(scan.grid, scan.time)] if scan.grid is not None else []
    values += start, end
    shape = shape_of(scan.filter, values, as_is)
    return tuple(values), shape
