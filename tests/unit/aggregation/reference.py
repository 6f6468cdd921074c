"""The answer to a query of facts, computed row by row from the raw facts: no states, no merges, no Polars.

It follows the contract's comments on ``Query`` and ``Calculations`` word for word and is as slow as it is plain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from broker.domain.model import Measure, MeasureKind
from broker.domain.plan import Finish, Plan
from broker.domain.query import (
    AllOf,
    AnyOf,
    Condition,
    Filter,
    Not,
    Operator,
    RollingWindow,
    ShareOfTotal,
    TopN,
)
from tests.unit.aggregation.facts import DATASET, Fact, inputs, rank, scanned
from tests.unit.aggregation.source import by_key, plain

K = MeasureKind
Key = tuple[Any, ...]
Groups = dict[Key, list[Fact]]
Record = dict[str, Any]


def answer(plan: Plan, facts: list[Fact]) -> list[tuple[Any, ...]]:
    """The rows of the answer, instants as microseconds."""
    finish, query = plan.finish, plan.query
    scans: list[Groups] = [by_key(scanned(facts, scan), scan) for scan in plan.scans]
    if not finish.keys:
        scans = [groups or {(): []} for groups in scans]
    names: list[str] = [column.name for column in finish.keys]
    top = query.calculations.top_n
    if top is not None:
        kept = _top(scans[0], top, finish, names)
        scans = [_rekeyed(groups, names.index(top.dimension), kept, other=top.other) for groups in scans]
        names = [*names, f"{top.dimension}__other"] if top.other else names
    main = scans[0]
    keys = [key for key in main if finish.grid is None or key[0] >= finish.lead]
    if finish.gap_fill:
        assert finish.grid is not None
        rest = {key[1:]: None for key in keys} if len(names) > 1 else {(): None}
        keys = [(b, *others) for b in range(finish.lead, len(finish.grid.starts)) for others in rest]
    records: list[Record] = []
    for key in keys:
        record: Record = dict(zip(names, key, strict=True))
        for output in finish.outputs:
            record[output.column.name] = value(DATASET.measures[output.column.name], main.get(key, []))
        if plan.comparison is not None:
            _compare(record, key, scans[1], plan)
        for window in query.calculations.rolling:
            record[f"{window.measure}__rolling"] = _rolling(key, main, window)
        records.append(record)
    for share in query.calculations.shares:
        _share(records, share)
    if query.having is not None:
        records = [record for record in records if truth(query.having, record) is True]
    for order, descending, first in reversed(
        [*((k.member, k.descending, k.nulls_first) for k in query.order), *((n, False, False) for n in names)]
    ):
        _sort(records, order, descending=descending, nulls_first=first)
    records = records[: query.limit] if query.limit else records
    return [tuple(_shown(record[c.name], c.name, finish) for c in finish.columns) for record in records]


def value(measure: Measure, facts: list[Fact]) -> Any:
    """The measure over raw facts."""
    if measure.kind is K.RATIO:
        above, below = (value(DATASET.measures[n], facts) for n in (measure.numerator, measure.denominator))
        return None if above is None or not below else float(above) / float(below)
    found = inputs(measure, facts)
    if measure.kind is K.COUNT:
        return len(found)
    if measure.kind in (K.APPROX_DISTINCT, K.EXACT_DISTINCT):
        return len(set(found))
    return _value_of_some(measure, found, facts) if found else None


def _value_of_some(measure: Measure, found: list[Any], facts: list[Fact]) -> Any:
    match measure.kind:
        case K.SUM:
            return sum(found[1:], found[0])
        case K.AVG:
            return float(sum(found[1:], found[0])) / len(found)
        case K.MIN:
            return plain(min(found, key=rank))
        case K.MAX:
            return plain(max(found, key=rank))
        case K.VARIANCE | K.STDDEV:
            numbers = [float(v) for v in found]
            mean = sum(numbers) / len(numbers)
            squares = sum((n - mean) ** 2 for n in numbers)
            variance = squares / (len(numbers) - 1) if len(numbers) > 1 else None
            return math.sqrt(variance) if measure.kind is K.STDDEV and variance is not None else variance
        case K.FIRST | K.LAST:
            known = sorted(
                (f for f in facts if getattr(f, measure.sql) is not None), key=lambda f: (f.at, f.id)
            )
            return getattr(known[0 if measure.kind is K.FIRST else -1], measure.sql)
        case K.APPROX_PERCENTILE:  # exact while the sketch still holds every value
            ranked = sorted(v for v in found if not math.isnan(v))
            return ranked[math.ceil(measure.percentile * len(ranked)) - 1] if ranked else None
        case kind:
            raise AssertionError(kind)


def _top(groups: Groups, top: TopN, finish: Finish, names: list[str]) -> set[Any]:
    at = names.index(top.dimension)
    pooled: dict[Any, list[Fact]] = {}
    for key, facts in groups.items():
        if finish.grid is None or key[0] >= finish.lead:
            pooled.setdefault(key[at], []).extend(facts)
    records: list[Record] = [{"v": v, "m": value(DATASET.measures[top.by], f)} for v, f in pooled.items()]
    _sort(records, "v", descending=False, nulls_first=False)
    _sort(records, "m", descending=not top.ascending, nulls_first=False)
    return {record["v"] for record in records[: top.count]}


def _rekeyed(groups: Groups, at: int, kept: set[Any], *, other: bool) -> Groups:
    found: Groups = {}
    for key, facts in groups.items():
        stays = key[at] in kept
        if not stays and not other:
            continue
        new = key if stays else (*key[:at], None, *key[at + 1 :])
        found.setdefault((*new, not stays) if other else new, []).extend(facts)
    return found


def _compare(record: Record, key: Key, previous: Groups, plan: Plan) -> None:
    finish, compare = plan.finish, plan.query.calculations.compare_to
    assert compare is not None
    exists = True
    if finish.grid is not None:
        shifted = finish.shift[key[0]]
        exists, key = shifted >= 0, (shifted, *key[1:])
    for name in compare.measures or plan.query.measures:
        before = value(DATASET.measures[name], previous.get(key, [])) if exists else None
        now = record[name]
        change = None if now is None or before is None else now - before
        record[f"{name}__previous"], record[f"{name}__change"] = before, change
        record[f"{name}__change_ratio"] = (
            None if change is None or not before else float(change) / float(before)
        )


def _rolling(key: Key, groups: Groups, window: RollingWindow) -> Any:
    facts = [f for b in range(key[0] - window.buckets + 1, key[0] + 1) for f in groups.get((b, *key[1:]), [])]
    return value(DATASET.measures[window.measure], facts)


def _share(records: list[Record], share: ShareOfTotal) -> None:
    for record in records:
        peers = [r for r in records if all(r[name] == record[name] for name in share.within)]
        total: Any = sum(r[share.measure] or 0 for r in peers)
        mine = record[share.measure]
        record[f"{share.measure}__share"] = None if mine is None or not total else float(mine) / float(total)


def truth(node: Filter, record: Mapping[str, Any]) -> bool | None:
    """SQL's three-valued logic."""
    match node:
        case Not(child):
            inner = truth(child, record)
            return None if inner is None else not inner
        case AllOf(children):
            found = [truth(child, record) for child in children]
            return False if False in found else None if None in found else True
        case AnyOf(children):
            found = [truth(child, record) for child in children]
            return True if True in found else None if None in found else False
        case Condition(member, operator, values):
            return _condition(record[member], operator, [plain(v) for v in values])


_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: lambda a, b: a == b,
    Operator.NE: lambda a, b: a != b,
    Operator.LT: lambda a, b: a < b,
    Operator.LE: lambda a, b: a <= b,
    Operator.GT: lambda a, b: a > b,
    Operator.GE: lambda a, b: a >= b,
    Operator.CONTAINS: lambda a, b: b in a,
    Operator.STARTS_WITH: lambda a, b: a.startswith(b),
    Operator.ENDS_WITH: lambda a, b: a.endswith(b),
}


def _condition(mine: Any, operator: Operator, values: list[Any]) -> bool | None:
    if operator in (Operator.IS_NULL, Operator.IS_NOT_NULL):
        return (mine is None) is (operator is Operator.IS_NULL)
    if mine is None:
        return None
    if operator in _COMPARE:
        text = operator in (Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH)
        return (
            _COMPARE[operator](mine, values[0]) if text else _COMPARE[operator](rank(mine), rank(values[0]))
        )
    if operator is Operator.BETWEEN:
        return bool(rank(values[0]) <= rank(mine) < rank(values[1]))
    return (rank(mine) in [rank(v) for v in values]) is (operator is Operator.IN)


def _sort(records: list[Record], name: str, *, descending: bool, nulls_first: bool) -> None:
    known = [r for r in records if r[name] is not None]
    known.sort(key=lambda r: rank(r[name]), reverse=descending)
    nulls = [r for r in records if r[name] is None]
    records[:] = nulls + known if nulls_first else known + nulls


def _shown(value: Any, name: str, finish: Finish) -> Any:
    if finish.grid is not None and name == finish.keys[0].name:
        return plain(finish.grid.starts[value])
    return value


def same(left: Any, right: Any) -> bool:
    """Equal; doubles up to rounding, NaN equal to itself, decimals whatever their scale."""
    if isinstance(left, float) and isinstance(right, float):
        both = math.isnan(left) and math.isnan(right)
        return both or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return left == right
    return type(left) is type(right) and bool(left == right)
