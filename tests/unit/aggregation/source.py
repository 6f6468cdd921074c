"""What a database returns for a scan of facts: partial states by key, as small rows or as CSV."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from broker.domain.measures import SKETCHES
from broker.domain.model import Measure, MeasureKind
from broker.domain.plan import (
    BUCKET,
    Block,
    CsvBlock,
    Leaf,
    Plan,
    Rows,
    Scan,
    ScanResult,
    key_name,
    state_name,
)
from broker.domain.values import Column, DataType
from tests.unit.aggregation.facts import Fact, inputs, rank, scanned

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
K = MeasureKind
Row = tuple[object, ...]


def results(plan: Plan, facts: list[Fact], parts: Sequence[int], *, csv: bool) -> tuple[ScanResult, ...]:
    """The results of the plan's scans, with fact ``i`` in part ``parts[i % len(parts)]``."""
    return tuple(
        result(plan.finish.leaves, scan, scanned(facts, scan), parts, csv=csv) for scan in plan.scans
    )


def result(
    leaves: Sequence[Leaf], scan: Scan, facts: list[Fact], parts: Sequence[int] = (0,), *, csv: bool = False
) -> ScanResult:
    """The result of one scan that reads these facts, with those of the leaves that the scan asks for."""
    split: dict[int, list[Fact]] = {}
    for fact in facts:
        split.setdefault(parts[fact.id % len(parts)], []).append(fact)
    leaves = [leaf for leaf in leaves if leaf.measure in scan.leaves]
    plain = [leaf for leaf in leaves if leaf.measure.kind not in SKETCHES]
    columns = _key_columns(scan)
    for leaf in plain:
        columns += [Column(state_name(leaf.measure.name, s.name), s.type, scale=s.scale) for s in leaf.states]
    grouped = [
        _block(
            columns,
            [(*key, *(v for leaf in plain for v in state(leaf.measure, group))) for key, group in groups],
            csv=csv,
        )
        for part in split.values()
        for groups in [by_key(part, scan).items()]
    ]
    values = {
        leaf.measure.name: tuple(
            _block(*_values(scan, leaf.measure, part), csv=csv) for part in split.values()
        )
        for leaf in leaves
        if leaf.measure.kind in SKETCHES
    }
    return ScanResult(tuple(grouped), values)


def by_key(facts: list[Fact], scan: Scan) -> dict[Row, list[Fact]]:
    """The facts by position of their bucket and dimensions."""
    groups: dict[Row, list[Fact]] = defaultdict(list)
    for fact in facts:
        bucket = () if scan.grid is None else (scan.grid.index(fact.at),)
        groups[*bucket, *(getattr(fact, d.name) for d in scan.dimensions)].append(fact)
    return groups


def state(measure: Measure, facts: list[Fact]) -> Row:
    """The partial states of a group, as SQL computes them."""
    found = inputs(measure, facts)
    match measure.kind:
        case K.COUNT:
            return (len(found),)
        case K.SUM:
            return (_sum(found),)
        case K.MIN | K.MAX:
            pick = min if measure.kind is K.MIN else max
            return (plain(pick(found, key=rank)) if found else None,)
        case K.AVG:
            return len(found), _sum(found)
        case K.VARIANCE | K.STDDEV:
            if not found:
                return 0, None, None
            mean = sum(map(float, found)) / len(found)
            return len(found), mean, sum((float(v) - mean) ** 2 for v in found)
        case K.FIRST | K.LAST:
            known = [f for f in facts if getattr(f, measure.sql) is not None]
            if not known:
                return None, None, None
            pick_fact = min if measure.kind is K.FIRST else max
            chosen = pick_fact(known, key=lambda f: (f.at, f.id))
            return plain(chosen.at), chosen.id, getattr(chosen, measure.sql)
        case K.EXACT_DISTINCT:
            return (len(set(found)),)
        case kind:
            raise AssertionError(kind)


def plain(value: object) -> object:
    """A value as blocks hold it."""
    return (value - EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value


def _sum(found: list[Any]) -> Any:
    return sum(found[1:], found[0]) if found else None


def _key_columns(scan: Scan) -> list[Column]:
    bucket = [] if scan.grid is None else [Column(BUCKET, DataType.INT64)]
    return bucket + [Column(key_name(i), d.type, scale=d.scale) for i, d in enumerate(scan.dimensions)]


def _values(scan: Scan, measure: Measure, facts: list[Fact]) -> tuple[list[Column], list[Row]]:
    counts: dict[Row, int] = defaultdict(int)
    for key, group in by_key(facts, scan).items():
        for value in inputs(measure, group):
            counts[*key, value] += 1
    columns = [
        *_key_columns(scan),
        Column("value", measure.type, scale=measure.scale),
        Column("weight", DataType.INT64),
    ]
    return columns, [(*row, n) for row, n in counts.items()]


def _block(columns: Sequence[Column], rows: Sequence[Row], *, csv: bool) -> Block:
    if not csv:
        return Rows(tuple(columns), tuple(rows))
    lines = "".join(",".join(map(copied, row)) + "\n" for row in rows)
    return CsvBlock(tuple(columns), lines.encode())


def copied(value: object) -> str:
    """A value as COPY writes it: null is nothing, an empty string a pair of quotes."""
    match value:
        case None:
            return ""
        case bool():
            return "t" if value else "f"
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case Decimal():
            return format(value, "f")
        case str() if not value or set(value) & set(',"\n\r') or value == "\\.":
            return '"' + value.replace('"', '""') + '"'
        case _:
            return str(value)
