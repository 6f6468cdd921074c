"""Datasets that jobs made: what is written for one, what can be asked of it, and how an answer is read from its rows.

A row stands for the group that it was made from. Its dimensions and its time, which is where its bucket begins, are the
dataset's dimensions. Its values are the dataset's measures, of the same kinds as those that they were made by:

- counts, sums, minima and maxima are computed from the values at any coarser key;
- averages and ratios are too, because what they are made from is written beside them, as measures of their own;
- variances, distinct counts, percentiles, and first and last values cannot be computed from their values. They are
  shown where each row stands for itself, which is by all dimensions and by the grain, and refused elsewhere.

A range and a grain are made of whole buckets, or refused: what lies within a bucket is not known any more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from broker.domain.errors import Violation, invalid
from broker.domain.materialised import Materialised
from broker.domain.measures import leaves
from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.plan import Finish, HeldBlock, Plan, Scan, ScanResult, key_name
from broker.domain.query import Query
from broker.domain.rollup import Span, micros
from broker.domain.values import ColumnRole, ResultFormat
from broker.policy.containment import merges, pinned
from broker.policy.held_states import merging, values_of
from broker.policy.ranges import GridBuilder
from broker.policy.rollups.normal import conjuncts

_OF_AVERAGES = ((MeasureKind.COUNT, "count"), (MeasureKind.SUM, "sum"))


def unsuited(query: Query) -> list[Violation]:
    """What of a query is left for the questions to its dataset, so that it cannot be a part of it."""
    found: list[Violation] = []
    if not query.calculations.empty:
        text = "calculations are asked for when the dataset is queried; leave them out here"
        found.append(Violation("calculations", text, "NOT_MATERIALIZED"))
    if query.time is not None and query.time.gap_fill:
        text = "gaps are filled when the dataset is queried; leave gap_fill out here"
        found.append(Violation("time.gap_fill", text, "NOT_MATERIALIZED"))
    return found


def carried(query: Query, dataset: Dataset) -> tuple[Query, Dataset]:
    """The query with the measures that its averages and ratios are made from; the dataset with those it lacked."""
    measures, wanted = dict(dataset.measures), dict.fromkeys(query.measures)
    known = [name for name in query.measures if name in measures]
    for leaf in leaves(dataset, known):
        wanted.setdefault(leaf.name)
        if leaf.kind is MeasureKind.AVG:
            for kind, word in _OF_AVERAGES:
                wanted.setdefault(_part(measures, dataset.dimensions, leaf, kind, word))
    return replace(query, measures=tuple(wanted)), replace(dataset, measures=measures)


def _part(
    measures: dict[str, Measure],
    dimensions: Mapping[str, Dimension],
    average: Measure,
    kind: MeasureKind,
    word: str,
) -> str:
    """The name of the measure that is the count, or the sum, behind an average; it is added where there is none."""
    name = f"{average.name}__{word}"
    part = replace(
        average,
        name=name,
        kind=kind,
        title=f"{average.title or average.name}: {word}",
        description=f"The {word} that {average.name} is made from.",
        unit="" if kind is MeasureKind.COUNT else average.unit,
    )
    for each in measures.values():
        if (
            replace(part, name=each.name, title=each.title, description=each.description, unit=each.unit)
            == each
        ):
            return each.name
    while name in measures or name in dimensions:
        name += "_"
    measures[name] = replace(part, name=name)
    return name


def dataset_of(name: str, plan: Plan, made: Materialised) -> Dataset:
    """The dataset that a job made by a plan. ``made`` says where the rows are, and is completed here."""
    scan, source = plan.main, plan.main.dataset
    dimensions: dict[str, Dimension] = {}
    measures: dict[str, Measure] = {}
    bucket = ""
    for column in made.columns:
        if column.role is ColumnRole.MEASURE:
            measures[column.name] = replace(source.measures[column.name], tables=())
            continue
        timed = column.role is ColumnRole.TIME_BUCKET
        bucket = column.name if timed else bucket
        known = source.dimensions[column.name]
        dimensions[column.name] = replace(known, sql="", tables=(), time=timed, stored_zone="")
    found = Dataset(
        name=name,
        table="",
        dimensions=dimensions,
        measures=measures,
        default_time=bucket,
        title=f"{source.title or source.name}, made by a job",
        description=f"Made by {made.job} of {source.name}, as of {made.status.as_of.isoformat(timespec='seconds')}; "
        f"kept until {made.expire_time.isoformat(timespec='seconds')}.",
        version=made.version,
    )
    mergeable = merging(found, made.columns)
    for measure in [each for each in measures.values() if each.name not in mergeable]:
        why = "Shown by all dimensions and the grain only: it cannot be computed again from its values."
        measures[measure.name] = replace(measure, description=f"{measure.description} {why}".strip())
    grid = scan.grid
    complete = replace(
        made,
        mergeable=mergeable,
        bucket=bucket,
        bounds=scan.bounds if bucket else None,
        grain=grid.grain if grid is not None else None,
        zone=grid.zone if grid is not None else "UTC",
    )
    return replace(found, materialised=complete)


@dataclass(frozen=True, slots=True)
class Way:
    """How an answer is read from the rows: what to finish, and how."""

    finish: Finish
    results: tuple[ScanResult, ...]


def way(plan: Plan, rows: Sequence[bytes], grids: GridBuilder) -> Way:
    """How a plan over a dataset that a job made is answered; ``rows`` are its files as encoded Arrow tables.

    Raises:
        BrokerError: INVALID_REQUEST where the rows do not tell what is asked.
    """
    made = plan.main.dataset.materialised
    assert made is not None, "the dataset was made by a job"
    cuts = _Cuts(made, grids)
    whole = [cuts.whole(scan) for scan in plan.scans]
    if None in whole:
        text = (
            f"{plan.main.dataset.name!r} keeps its time by {made.grain} in {made.zone}: "
            "ask for a range, a grain and a zone that are made of whole buckets of these"
        )
        raise invalid([Violation("time", text, "FINER_THAN_KEPT")])
    alone = all(_alone(scan, made, own is True) for scan, own in zip(plan.scans, whole, strict=True))
    values = values_of(plan, made.columns, merged=merges(plan) or not alone)
    if values is None:
        raise invalid([_unmergeable(plan, made)])
    return Way(
        values.finish,
        tuple(
            ScanResult(tuple(_block(scan, made, values.states, data) for data in rows)) for scan in plan.scans
        ),
    )


def _unmergeable(plan: Plan, made: Materialised) -> Violation:
    names = ", ".join(repr(each) for each in plan.query.measures if each not in made.mergeable)
    keys = [c.name for c in made.columns if c.role is ColumnRole.DIMENSION]
    keys += [f"{made.bucket} by {made.grain} in {made.zone}"] if made.bucket else []
    by = (
        f"ask by all of {', '.join(keys)}, without rolling windows, or leave them out"
        if keys
        else "leave them out"
    )
    text = f"{names} cannot be computed again from their values; {by}"
    return Violation("measures", text, "NOT_MERGEABLE")


def _alone(scan: Scan, made: Materialised, same: bool) -> bool:
    """Whether every group of the scan is one row; its buckets are the ``same`` as those that are kept."""
    kept = {c.name for c in made.columns if c.role is ColumnRole.DIMENSION}
    asked = {dimension.name for dimension in scan.dimensions} | pinned(conjuncts(scan.filter))
    return kept <= asked and (same or not made.bucket)


class _Cuts:
    """Where the buckets of a dataset begin and end."""

    def __init__(self, made: Materialised, grids: GridBuilder) -> None:
        self._made = made
        self._starts: memoryview = memoryview(b"").cast("q")
        self._span: Span | None = None
        if made.bucket and made.bounds is not None and made.grain is not None:
            self._span = Span(micros(made.bounds.start), micros(made.bounds.end))
            # The first bucket may begin before the range; what is kept of it does not.
            self._starts = memoryview(grids(made.bounds, made.grain, made.zone).packed)[8:].cast("q")

    def whole(self, scan: Scan) -> bool | None:
        """Whether the scan's buckets are those that are kept, or made of several; None when it cuts any."""
        if self._span is None:
            return True
        if scan.bounds is None:
            return not len(self._starts)
        low, high = max(self._span.lo, scan.span.lo), min(self._span.hi, scan.span.hi)
        if low >= high:
            return True
        own = memoryview(scan.grid.packed).cast("q") if scan.grid is not None else self._starts[:0]
        inner = own[bisect_right(own, low) : bisect_left(own, high)]
        edges = [at for at in (low, high) if at not in self._span]
        if not all(self._has(at) for at in (*edges, *inner)):
            return None
        return len(inner) == bisect_left(self._starts, high) - bisect_right(self._starts, low)

    def _has(self, at: int) -> bool:
        place = bisect_left(self._starts, at)
        return place < len(self._starts) and self._starts[place] == at


def _block(scan: Scan, made: Materialised, states: tuple[tuple[str, str], ...], data: bytes) -> HeldBlock:
    timed = scan.bounds is not None
    return HeldBlock(
        data=data,
        format=ResultFormat.ARROW,
        columns=made.columns,
        keys=tuple((dimension.name, key_name(i)) for i, dimension in enumerate(scan.dimensions)),
        states=states,
        filter=scan.filter,
        bucket=made.bucket if timed else "",
        begin=micros(made.bounds.start) if made.bounds is not None else 0,
        span=scan.span if timed else None,
        starts=scan.grid.packed if scan.grid is not None else b"",
    )
