"""Plans that are alike: what was found out for one holds for the next, but for what differs.

They differ in the ends of their range and in texts that dimensions are to equal. So names and types are not checked
again, and the fingerprint is put together from the text of the first, with what differs in its place. What is put
together is what :func:`broker.policy.resolve.resolve_query` would make; whatever it would not, is left to it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from broker.domain.change import Change
from broker.domain.fingerprint import canonical, digest, together
from broker.domain.model import Dataset
from broker.domain.plan import Finish, Plan, Scan
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, AllOf, Condition, Filter, Operator, Query, conditions
from broker.domain.values import DataType, Scalar
from broker.policy.ranges import GridBuilder
from broker.policy.resolve import identifying

MOST = 1_024
"""Plans that are remembered."""
_BOUND = Change(Scan, "bounds", "grid", "filter", "principal")
_ON_GRID = Change(Finish, "grid")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Known:
    """A plan, and the text of its identity cut where something differs."""

    __slots__ = ("pieces", "plan")

    def __init__(self, plan: Plan, pieces: Sequence[str]) -> None:
        self.plan, self.pieces = plan, pieces

    def fingerprint(self, query: Query) -> str:
        """The fingerprint of a plan that is alike."""
        return digest(_filled(self.pieces, query))


class Plans:
    """The plans that were made, latest used last."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], _Known] = OrderedDict()

    def make(
        self, shape: bytes, query: Query, dataset: Dataset, principal: Principal, grids: GridBuilder
    ) -> Plan | None:
        """The plan of a query, if one that is alike was made for the same principal, and nothing is wrong with it."""
        name = shape, principal.tenant, principal.name
        known = self._known.get(name)
        if known is None or query.time is None or not isinstance(query.time.range, AbsoluteRange):
            return None
        plan, main, bounds = known.plan, known.plan.main, query.time.range
        if main.dataset is not dataset or (main.principal is not principal and main.principal != principal):
            return None
        self._known.move_to_end(name)
        grid = None
        if main.grid is not None:
            try:
                grid = grids(bounds, main.grid.grain, main.grid.zone)
            except (OverflowError, ValueError):
                return None
        scan = _BOUND(main, bounds, grid, query.filter, principal)
        finish = _ON_GRID(plan.finish, grid)
        return Plan(query, scan, None, finish, known.fingerprint(query), shape=name)

    def keep(self, shape: bytes, plan: Plan) -> Plan:
        """Remembers a plan, if others that are alike can be made of it; the plan with its shape."""
        pieces = _pieces(plan)
        if pieces is None:
            return plan
        principal = plan.main.principal
        name = shape, principal.tenant, principal.name
        self._known[name] = _Known(plan, pieces)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return replace(plan, shape=name)


def _pieces(plan: Plan) -> Sequence[str] | None:
    """The text that identifies a plan, without what differs in others; None where others may differ otherwise."""
    query, main, time = plan.query, plan.main, plan.query.time
    dimension = main.time
    if (
        time is None
        or dimension is None
        or dimension.type is not DataType.TIMESTAMP
        or time.range != main.bounds
    ):
        return None
    if not isinstance(time.range, AbsoluteRange) or main.dataset.materialised is not None:
        return None
    if plan.comparison is not None or plan.finish.lead or not query.calculations.empty:
        return None
    texts = [condition for _, condition in conditions(query.filter)]
    if not all(_text(condition, main.dataset) for condition in texts):
        return None
    marks = [_EPOCH + timedelta(days=999_999, microseconds=i) for i in range(2)]
    named = [f"\x00{i}" for i in range(len(texts))]  # no text of a request has this character
    marked = replace(time, range=AbsoluteRange(*marks))
    rest = together(*identifying(replace(query, time=marked, filter=_with(query.filter, named)), main))
    pieces: list[str] = []
    for mark in (*marks, *named):
        piece, found, rest = rest.partition(canonical(mark))
        if not found:
            return None
        pieces.append(piece)
    pieces.append(rest)
    return pieces if digest(_filled(pieces, query)) == plan.fingerprint else None


def _text(condition: Condition, dataset: Dataset) -> bool:
    if condition.operator is not Operator.EQ or len(condition.values) != 1:
        return False
    return dataset.dimensions[condition.member].type is DataType.STRING


def _filled(pieces: Sequence[str], query: Query) -> str:
    assert query.time is not None, "it has a range"
    assert isinstance(query.time.range, AbsoluteRange), "that is absolute"
    bounds, node = query.time.range, query.filter
    filled = [pieces[0], canonical(bounds.start), pieces[1], canonical(bounds.end)]
    nodes = (node,) if isinstance(node, Condition) else node.filters if isinstance(node, AllOf) else ()
    texts = [repr(value) for each in nodes if isinstance(each, Condition) for value in each.values]
    for piece, text in zip(pieces[2:], (*texts, ""), strict=True):
        filled += piece, text
    return "".join(filled)


def _with(node: Filter | None, texts: Sequence[Scalar]) -> Filter | None:
    match node:
        case Condition():
            return replace(node, values=(texts[0],))
        case AllOf(children):
            each = [
                replace(c, values=(t,))
                for c, t in zip(children, texts, strict=True)
                if isinstance(c, Condition)
            ]
            return AllOf(tuple(each))
        case _:
            return None
