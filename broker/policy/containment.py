"""Whether the table of a held answer holds the answer to another question, and how it is read from it.

The held answer is taken for a rollup whose dimensions are its keys, whose base grain is its own grid, and whose states
are its finished values, as far as these merge. The proof is that of rollups: rows that are asked for were read
(implication), what remains of the filter can be decided on keys, and no bucket that is asked for cuts a bucket that is
held. Sound, not complete.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from broker.domain.answer import Table
from broker.domain.fingerprint import fingerprint
from broker.domain.held import Content
from broker.domain.plan import Finish, HeldBlock, Plan, Scan, ScanResult, key_name
from broker.domain.query import AbsoluteRange, Condition, Filter, Operator
from broker.domain.rollup import Span, micros
from broker.domain.timegrid import TimeGrid
from broker.domain.values import Column, ColumnRole
from broker.policy.held_states import Values, present, values_of
from broker.policy.ranges import GridBuilder
from broker.policy.rollups.asked import asked_of, bounded
from broker.policy.rollups.implication import implies
from broker.policy.rollups.normal import conjuncts, joined, members_of

_MOST_CUTS = 4096
"""So many starts of buckets are looked up one by one."""


@dataclass(frozen=True, slots=True)
class Way:
    """How an answer is read from a held table: what to finish, and how. ``rows`` of the table are looked at."""

    finish: Finish
    results: tuple[ScanResult, ...]
    rows: int


class Asking:
    """A question to held answers, with what every look at one needs; made once for each question."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dimensions = frozenset(dimension.name for dimension in plan.main.dimensions)

    @cached_property
    def scope(self) -> str:
        """Whose rows of which definition."""
        main, dataset = self.plan.main, self.plan.main.dataset
        return fingerprint(dataset.name, dataset.version, _visible(main) if main.policies else ())

    @cached_property
    def question(self) -> str:
        """The query without its limit, over the range that is read."""
        query = replace(self.plan.query, limit=0)
        if query.time is not None:
            query = replace(query, time=replace(query.time, range=self.plan.main.bounds))
        return fingerprint(query, self.scope)

    @cached_property
    def content(self) -> Content:
        """What the rows of the answer are."""
        main, query, finish = self.plan.main, self.plan.query, self.plan.finish
        bounds = main.bounds
        if bounds is not None and finish.lead and main.grid is not None:
            bounds = AbsoluteRange(main.grid.starts[finish.lead], bounds.end)  # the rows before were dropped
        return Content(
            scope=self.scope,
            question=self.question,
            time=main.time.name if main.time is not None and bounds is not None else "",
            bounds=bounds,
            grain=main.grid.grain if main.grid is not None else None,
            zone=main.grid.zone if main.grid is not None else "UTC",
            filter=self.parts,
            limit=finish.limit,
            whole=query.having is None and query.calculations.top_n is None,
            filled=finish.gap_fill,
        )

    @cached_property
    def parts(self) -> tuple[Filter, ...]:
        """The filter in normal form."""
        return conjuncts(self.plan.main.filter)


def content_of(plan: Plan) -> Content:
    """What the rows of a plan's answer are."""
    return Asking(plan).content


def way(asking: Asking, content: Content, table: Table, grids: GridBuilder) -> Way | None:
    """How the question is answered from the table of a held answer; None when that cannot be shown."""
    if content.scope != asking.scope:
        return None
    plan, every = asking.plan, not content.limit or table.row_count < content.limit
    if content.question == asking.question and (every or 0 < plan.finish.limit <= content.limit):
        return _first_rows(plan, table)
    if not (every and content.whole):
        return None
    # Without keys there is one row even of nothing, which is no group for a question that has keys.
    doubtful = content.filled or (bool(plan.finish.keys) and not _keyed(table))
    shown = present(plan.main.dataset, table.columns) if doubtful else ""
    if shown is None:
        return None
    held = _Held(content, table, grids)
    found = [held.taken(scan, asking.parts) for scan in plan.scans]
    taken = [each for each in found if each is not None]
    if len(taken) < len(found):
        return None
    values = values_of(plan, table.columns, merged=merges(plan) or not all(each.alone for each in taken))
    if values is None:
        return None
    blocks = [_block(scan, each, values, held, shown) for scan, each in zip(plan.scans, taken, strict=True)]
    return Way(values.finish, tuple(ScanResult((block,)) for block in blocks), table.row_count)


def may_hold(asking: Asking, content: Content, columns: Sequence[Column]) -> bool:
    """A quick look, before :func:`way`: False where that would give None."""
    if content.scope != asking.scope:
        return False
    if content.question == asking.question:
        return True
    if not content.whole or not asking.dimensions <= {
        c.name for c in columns if c.role is ColumnRole.DIMENSION
    }:
        return False
    bounds = asking.plan.main.bounds
    if bounds is None:
        return True
    return (
        content.bounds is not None
        and content.bounds.start <= bounds.start <= bounds.end <= content.bounds.end
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a scan takes of the held rows.

    ``span`` of their time, those that pass ``filter``; ``alone`` when every group of the scan has one row at most:
    the keys are the same, or only one value of every other one passes.
    """

    span: Span | None
    filter: Filter | None
    alone: bool


class _Held:
    """A held table as a rollup."""

    def __init__(self, content: Content, table: Table, grids: GridBuilder) -> None:
        self.content, self.table, self._grids = content, table, grids
        self.bucket = next((c.name for c in table.columns if c.role is ColumnRole.TIME_BUCKET), "")
        self._dimensions = frozenset(c.name for c in table.columns if c.role is ColumnRole.DIMENSION)
        bounds = content.bounds
        self.span = None if bounds is None else Span(micros(bounds.start), micros(bounds.end))

    def taken(self, scan: Scan, parts: tuple[Filter, ...]) -> _Taken | None:
        """What the scan takes, if everything that it asks for is there."""
        content, own = self.content, self.content.filter
        wanted = {dimension.name for dimension in scan.dimensions}
        if not wanted <= self._dimensions:
            return None
        if bounded(scan) and (scan.time is None or scan.time.name != content.time):
            return None
        left = tuple(part for part in parts if not implies(own, (part,))) if own else parts
        given, span, alone = parts, None, self._dimensions <= wanted | pinned((*own, *left))
        if self.span is not None:
            time = scan.dataset.dimensions[content.time]
            asked = asked_of(scan, time, left, ())
            if asked.problem is not None:
                return None
            inside = self._inside(asked.span, scan.grid)
            if inside is None:
                return None
            given, span, left, alone = (
                asked_of(scan, time, parts, ()).given,
                asked.span,
                asked.rest,
                alone and inside,
            )
        if own and not implies(given, own):
            return None
        return _Taken(span, joined(left), alone) if members_of(left) <= self._dimensions else None

    def _inside(self, span: Span, grid: TimeGrid | None) -> bool | None:
        """Whether buckets of the grid within the span are buckets that are held; None when they cut some of these."""
        assert self.span is not None
        if span.lo >= span.hi:
            return True
        if span.lo < self.span.lo or span.hi > self.span.hi:
            return None
        cuts = self._cuts()
        first = bisect_right(cuts, span.lo)
        last = bisect_left(cuts, span.hi)
        if span.lo != self.span.lo and (not first or cuts[first - 1] != span.lo):
            return None
        if span.hi != self.span.hi and (last == len(cuts) or cuts[last] != span.hi):
            return None
        if grid is None:
            return first == last
        starts = memoryview(grid.packed).cast("q")
        begin, end = bisect_right(starts, span.lo), bisect_left(starts, span.hi)
        inner = starts[begin:end]
        if inner == cuts[first:last]:
            return True
        return False if self._cut(inner, cuts) else None

    def _cuts(self) -> memoryview:
        """Where held buckets begin, but for the first one, whose beginning may lie before the range."""
        content = self.content
        if content.bounds is None or content.grain is None:
            return memoryview(b"").cast("q")
        return memoryview(self._grids(content.bounds, content.grain, content.zone).packed)[8:].cast("q")

    def _cut(self, inner: memoryview, cuts: memoryview) -> bool:
        """Whether some of the cuts are at each of the inner instants, which are fewer."""
        if len(inner) >= len(cuts):
            return False
        if len(inner) > _MOST_CUTS:
            return set(inner) <= set(cuts)
        found = (bisect_left(cuts, at) for at in inner)
        return all(i < len(cuts) and cuts[i] == at for i, at in zip(found, inner, strict=True))


def pinned(parts: Iterable[Filter]) -> frozenset[str]:
    """Dimensions of which only one value is left."""
    single = (Operator.EQ, Operator.IS_NULL)
    return frozenset(part.member for part in parts if isinstance(part, Condition) and part.operator in single)


def _keyed(table: Table) -> bool:
    return any(column.role in (ColumnRole.TIME_BUCKET, ColumnRole.DIMENSION) for column in table.columns)


def merges(plan: Plan) -> bool:
    """Whether the finish merges groups, however they were read."""
    calculations = plan.finish.calculations
    top = calculations.top_n
    ranked = top is not None and (top.other or len(plan.finish.keys) > 1)
    return ranked or bool(calculations.rolling)


def _block(scan: Scan, taken: _Taken, values: Values, held: _Held, shown: str) -> HeldBlock:
    table = held.table
    return HeldBlock(
        data=table.encoded,
        format=table.format,
        columns=table.columns,
        keys=tuple((dimension.name, key_name(i)) for i, dimension in enumerate(scan.dimensions)),
        states=values.states,
        filter=taken.filter,
        bucket=held.bucket,
        begin=held.span.lo if held.span is not None else 0,
        span=taken.span,
        starts=scan.grid.packed if scan.grid is not None else b"",
        present=shown,
    )


def _first_rows(plan: Plan, table: Table) -> Way:
    """The same question, so the first rows of the held table as they are."""
    names = tuple((column.name, key_name(i)) for i, column in enumerate(table.columns))
    block = HeldBlock(table.encoded, table.format, table.columns, names, (), limit=plan.finish.limit)
    finish = Finish(columns=table.columns, keys=table.columns, leaves=(), outputs=(), pushed_down=True)
    rows = min(table.row_count, plan.finish.limit or table.row_count)
    return Way(finish, (ScanResult((block,)),), rows)


def _visible(scan: Scan) -> tuple[object, ...]:
    """What decides which rows the reader sees."""
    reader = scan.principal
    return reader.name, reader.tenant, dict(reader.attributes), [policy.name for policy in scan.policies]
