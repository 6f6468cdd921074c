"""Checks the calculations of a query and lists the columns that they add."""

from __future__ import annotations

from broker.domain.errors import Violation
from broker.domain.measures import ADDITIVE, leaves, mergeable, result_type
from broker.domain.model import Dataset, MeasureKind
from broker.domain.query import Calculations, Query
from broker.domain.values import Column, ColumnRole, DataType
from broker.policy.conditions import nearest
from broker.policy.ranges import compatible

MAX_ROLLING_BUCKETS = 10_000
MAX_TOP = 10_000


def compared_measures(query: Query) -> tuple[str, ...]:
    """The measures that get comparison columns."""
    compare = query.calculations.compare_to
    return () if compare is None else (compare.measures or query.measures)


def check_calculations(query: Query, dataset: Dataset, time_name: str) -> list[Violation]:
    """Every violation among the calculations, with paths that begin at ``calculations``."""
    calculations = query.calculations
    found = [*_check_top_n(query, dataset), *_check_compare(query, dataset)]
    for i, share in enumerate(calculations.shares):
        path = f"calculations.shares[{i}]"
        found += _selected(share.measure, query, f"{path}.measure")
        if share.measure in query.measures and dataset.measures[share.measure].kind not in ADDITIVE:
            text = f"{share.measure!r} is not additive; shares need a count or a sum"
            found.append(Violation(f"{path}.measure", text, "NOT_ADDITIVE"))
        keys = [*query.dimensions, *([time_name] if time_name else [])]
        for j, name in enumerate(share.within):
            if name not in keys:
                text = f"{name!r} is not a selected dimension{nearest(name, keys)}"
                found.append(Violation(f"{path}.within[{j}]", text, "UNKNOWN_MEMBER"))
    for i, window in enumerate(calculations.rolling):
        path = f"calculations.rolling_windows[{i}]"
        found += _selected(window.measure, query, f"{path}.measure")
        found += _mergeable(window.measure, query, dataset, f"{path}.measure", "a rolling window")
        if not 2 <= window.buckets <= MAX_ROLLING_BUCKETS:
            text = f"must be from 2 to {MAX_ROLLING_BUCKETS}, not {window.buckets}"
            found.append(Violation(f"{path}.buckets", text, "OUT_OF_RANGE"))
        if query.time is None or query.time.grain is None:
            text = "a rolling window needs a time grain"
            found.append(Violation(path, text, "REQUIRED"))
    for names, path in (
        ([s.measure for s in calculations.shares], "calculations.shares"),
        ([w.measure for w in calculations.rolling], "calculations.rolling_windows"),
    ):
        for name in sorted({n for n in names if names.count(n) > 1}):
            found.append(Violation(path, f"{name!r} is given more than once", "DUPLICATE"))
    return found


def _check_top_n(query: Query, dataset: Dataset) -> list[Violation]:
    top = query.calculations.top_n
    if top is None:
        return []
    path = "calculations.top_n"
    found: list[Violation] = []
    if not 1 <= top.count <= MAX_TOP:
        found.append(
            Violation(f"{path}.count", f"must be from 1 to {MAX_TOP}, not {top.count}", "OUT_OF_RANGE")
        )
    if top.dimension not in query.dimensions:
        text = (
            f"{top.dimension!r} is not a selected dimension{nearest(top.dimension, list(query.dimensions))}"
        )
        found.append(Violation(f"{path}.dimension", text, "UNKNOWN_MEMBER"))
    found += _selected(top.by, query, f"{path}.by")
    found += _mergeable(top.by, query, dataset, f"{path}.by", "ranking")
    if top.other:
        for name in query.measures:
            if name in dataset.measures and not mergeable(dataset, name):
                text = f"an 'other' row cannot be made for {name!r}: its values do not merge; use its approximate kind"
                found.append(Violation(f"{path}.other", text, "NOT_MERGEABLE"))
    return found


def _check_compare(query: Query, dataset: Dataset) -> list[Violation]:
    compare = query.calculations.compare_to
    if compare is None:
        return []
    path = "calculations.compare_to"
    found: list[Violation] = []
    if query.time is None or query.time.range is None:
        found.append(Violation(path, "a comparison needs a time range", "REQUIRED"))
    elif not compatible(query.time.grain, compare):
        text = f"{compare.count} {compare.unit} does not lead from one {query.time.grain} to another"
        found.append(Violation(f"{path}.unit", text, "INCOMPATIBLE_GRAIN"))
    if not 1 <= compare.count <= 100_000:
        found.append(
            Violation(f"{path}.count", f"must be from 1 to 100000, not {compare.count}", "OUT_OF_RANGE")
        )
    if not compared_measures(query):
        found.append(Violation(f"{path}.measures", "the query selects no measure to compare", "REQUIRED"))
    for i, name in enumerate(compare.measures):
        found += _selected(name, query, f"{path}.measures[{i}]")
        if compare.measures.index(name) < i:
            found.append(Violation(f"{path}.measures[{i}]", f"{name!r} is given more than once", "DUPLICATE"))
    for name in compared_measures(query):
        if name in dataset.measures and not result_type(dataset.measures[name])[0].numeric:
            text = f"{name!r} is not a number and has no change"
            found.append(Violation(f"{path}.measures", text, "NOT_NUMERIC"))
    return found


def _selected(name: str, query: Query, path: str) -> list[Violation]:
    if name in query.measures:
        return []
    text = f"{name!r} is not a selected measure{nearest(name, list(query.measures))}"
    return [Violation(path, text, "UNKNOWN_MEMBER")]


def _mergeable(name: str, query: Query, dataset: Dataset, path: str, purpose: str) -> list[Violation]:
    if name not in query.measures or name not in dataset.measures or mergeable(dataset, name):
        return []
    text = f"{name!r} does not merge, which {purpose} needs; use its approximate kind"
    return [Violation(path, text, "NOT_MERGEABLE")]


def added_columns(
    calculations: Calculations, query: Query, measure_columns: dict[str, Column]
) -> list[Column]:
    """The columns that the calculations add, in the answer's order."""

    def column(name: str, type_: DataType, like: Column | None = None) -> Column:
        scale, unit = (like.scale, like.unit) if like is not None else (0, "")
        return Column(name, type_, ColumnRole.CALCULATION, scale=scale, unit=unit)

    added: list[Column] = []
    if calculations.top_n is not None and calculations.top_n.other:
        added.append(column(f"{calculations.top_n.dimension}__other", DataType.BOOL))
    for name in compared_measures(query):
        like = measure_columns[name]
        added.append(column(f"{name}__previous", like.type, like))
        added.append(column(f"{name}__change", like.type, like))
        added.append(column(f"{name}__change_ratio", DataType.DOUBLE))
    added += [column(f"{s.measure}__share", DataType.DOUBLE) for s in calculations.shares]
    for window in calculations.rolling:
        like = measure_columns[window.measure]
        added.append(column(f"{window.measure}__rolling", like.type, like))
    return added


def has_sketches(dataset: Dataset, names: tuple[str, ...]) -> bool:
    """Whether a measure's states are built outside the database."""
    sketched = (MeasureKind.APPROX_DISTINCT, MeasureKind.APPROX_PERCENTILE)
    return any(m.kind in sketched for m in leaves(dataset, names))
