"""The cost fingerprint: equal for questions that should cost about the same.

It is not the exact fingerprint, by which answers are shared. Literals are replaced by how many or how large they are,
in buckets on a logarithmic scale, because they change with every request (last week is another week tomorrow) while
the work stays the same: the length of a range in half octaves (a factor of 1.4), the number of values in a list, of
buckets in a grid, limits and windows in octaves. Dataset with its version, measures, dimensions, grain, operators with
their members, and calculations are kept. Where row policies decide which rows a tenant has, the tenant belongs to it.
"""

from __future__ import annotations

import hashlib
import math
import re
from functools import lru_cache

from broker.domain.plan import Plan, Scan
from broker.domain.query import AllOf, AnyOf, Calculations, Condition, Filter, Not, Operator

_LITERAL = re.compile(r"'(?:[^']|'')*'|(?<![\w$.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b")
_LIST = re.compile(r"\?[sn](?:\s*,\s*\?[sn])+")
_TEXT = frozenset({Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH})


@lru_cache(maxsize=4096)
def octave(size: float, steps: int = 1) -> int:
    """The bucket of a positive size, ``steps`` to a factor of two; -1 for nothing."""
    return round(steps * math.log2(1.0 + size)) if size > 0 else -1


def cost_fingerprint(plan: Plan) -> str:
    """Thirty-two hexadecimal digits that name the cost of a plan."""
    query, scan = plan.query, plan.main
    parts: list[object] = [
        scan.dataset.name,
        scan.dataset.version,
        sorted(query.measures),
        sorted(query.dimensions),
        size_of(scan),
        query.time is not None and query.time.gap_fill,
        _filter(query.filter),
        _filter(query.having),
        sorted(key.member for key in query.order),
        octave(query.limit),
        _calculations(query.calculations),
        plan.comparison is not None and size_of(plan.comparison),
    ]
    if scan.policies:
        who = scan.principal
        parts.append([*(p.name for p in scan.policies), who.tenant, who.name, sorted(who.attributes.items())])
    return _digest("plan", parts)


def sql_cost_fingerprint(text: str, tenant: str) -> str:
    """The same for a statement that passed the gate, whose row policies make every tenant a case of its own."""

    def size(found: re.Match[str]) -> str:
        return f"?{octave(found[0].count('?'))}"

    shape = _LITERAL.sub(lambda found: "?s" if found[0].startswith("'") else "?n", text)
    return _digest("sql", [tenant, _LIST.sub(size, shape)])


def routed_fingerprint(fingerprint: str, sources: tuple[str, ...]) -> str:
    """The same for a plan that these sources answer, rather than the tables alone."""
    return _digest("routed", [fingerprint, *sources])


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def size_of(scan: Scan) -> tuple[object, ...]:
    """What of a scan's time range is in its fingerprint: how long it is, and of how many buckets, in steps."""
    name = scan.time.name if scan.time is not None else ""
    length = (scan.bounds.end - scan.bounds.start).total_seconds() if scan.bounds is not None else 0.0
    grid = scan.grid
    if grid is None:
        return (name, octave(length, 2))
    return (name, octave(length, 2), str(grid.grain), octave(len(grid.starts)))


def _filter(node: Filter | None) -> object:
    match node:
        case None:
            return ""
        case Condition(member, operator, values):
            size = max((len(str(v)) for v in values), default=0) if operator in _TEXT else len(values)
            return (member, operator.value, octave(size))
        case Not(child):
            return ("not", _filter(child))
        case AllOf(children) | AnyOf(children):
            return (type(node).__name__, sorted(map(repr, map(_filter, children))))


def _calculations(asked: Calculations) -> tuple[object, ...]:
    top, compare = asked.top_n, asked.compare_to
    return (
        (top.dimension, top.by, top.other, octave(top.count)) if top is not None else (),
        (compare.unit.value, octave(compare.count), sorted(compare.measures)) if compare is not None else (),
        sorted((share.measure, *sorted(share.within)) for share in asked.shares),
        sorted((window.measure, octave(window.buckets)) for window in asked.rolling),
    )
