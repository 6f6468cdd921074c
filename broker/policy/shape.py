"""What can be told of a question's cost from the question alone: the factor that people call its complexity."""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.domain.measures import ORDERED, SKETCHES, UNMERGEABLE
from broker.domain.model import Dimension, MeasureKind
from broker.domain.plan import Plan
from broker.domain.query import conditions
from broker.domain.values import DataType

_COLUMN = re.compile(r"[\w.\"{}]+")
MOMENTS = frozenset({MeasureKind.VARIANCE, MeasureKind.STDDEV})


@dataclass(frozen=True, slots=True)
class Shape:
    """Counts: measures read, and those of them that cost more than an addition; keys, conditions, buckets, tables.

    ``days`` is the length of the range, ``compared`` says whether a second one is read. A range is ``blind``, and
    conditions are ``guessed``, where they are on an expression, of whose values the planner has no statistics.
    ``pushed`` queries are finished by the database, ``having`` cuts groups.
    """

    measures: int = 0
    sketched: int = 0
    exact: int = 0
    ordered: int = 0
    moments: int = 0
    decimals: int = 0
    dimensions: int = 0
    texts: int = 0
    buckets: int = 0
    conditions: int = 0
    guessed: int = 0
    tables: int = 1
    days: float = 0.0
    ranged: bool = False
    blind: bool = False
    compared: bool = False
    pushed: bool = False
    having: bool = False

    @property
    def complexity(self) -> float:
        """One number for people: what is read, grouped, compared and joined; heavy measures count three times."""
        heavy = self.sketched + self.exact + self.ordered
        parts = self.measures + 2 * heavy + self.dimensions + self.conditions + self.tables - 1
        return float(max(1, parts + bool(self.buckets)) * (2 if self.compared else 1))


def shape_of(plan: Plan) -> Shape:
    """The shape of a plan."""
    scan, dataset = plan.main, plan.main.dataset
    tables: set[str] = set()
    for dimension in scan.dimensions:
        tables.update(dimension.tables)
    for measure in scan.leaves:
        tables.update(measure.tables)
    found = [condition for _, condition in conditions(scan.filter)]
    for condition in found:
        tables.update(dataset.dimensions[condition.member].tables)
    tables.discard(dataset.name)
    return Shape(
        measures=len(scan.leaves),
        sketched=sum(m.kind in SKETCHES for m in scan.leaves),
        exact=sum(m.kind in UNMERGEABLE for m in scan.leaves),
        ordered=sum(m.kind in ORDERED for m in scan.leaves),
        moments=sum(m.kind in MOMENTS for m in scan.leaves),
        decimals=sum(m.type is DataType.DECIMAL for m in scan.leaves),
        dimensions=len(scan.dimensions),
        texts=sum(d.type is DataType.STRING for d in scan.dimensions),
        buckets=len(scan.grid.starts) if scan.grid is not None else 0,
        conditions=len(found),
        guessed=sum(not _plain(dataset.dimensions[c.member]) for c in found),
        tables=1 + len(tables),
        days=(scan.bounds.end - scan.bounds.start).total_seconds() / 86400
        if scan.bounds is not None
        else 0.0,
        ranged=scan.bounds is not None,
        blind=scan.bounds is not None and scan.time is not None and not _plain(scan.time),
        compared=plan.comparison is not None,
        pushed=plan.finish.pushed_down,
        having=plan.finish.having is not None,
    )


def _plain(dimension: Dimension) -> bool:
    """Whether a dimension is a column."""
    return _COLUMN.fullmatch(dimension.sql) is not None
