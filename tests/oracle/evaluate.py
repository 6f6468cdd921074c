"""Answers a query: rows, groups, then the calculations, in the order of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from querybroker.v1 import query_pb2 as q
from tests.oracle.aggregate import Groups, Key, empty_value, groups
from tests.oracle.calculate import Row, compare_rows, other_column, share_rows, top_values
from tests.oracle.cells import Cell
from tests.oracle.expected import Expected, expected_columns, ordered
from tests.oracle.model import ROW_KEY, ROW_TIME, OracleModel
from tests.oracle.predicates import expression, holds
from tests.oracle.timing import Period, compared, grain_name, period, resolved
from tests.oracle.zones import DAY, ZoneClock, day_date, moment, zone_clock

BUCKET = "#bucket"


@dataclass(frozen=True, slots=True)
class Selection:
    """The time dimension of a query: ``dated`` when it holds dates; the clock is then that of UTC."""

    name: str
    dated: bool
    clock: ZoneClock
    grain: str
    main: Period | None

    def shown(self, bucket: int) -> object:
        """A bucket's beginning as a value of the answer."""
        return day_date(bucket // DAY) if self.dated else moment(bucket)


def evaluate(query: q.Query, model: OracleModel, now: int) -> Expected:
    """The expected answer at the instant ``now``.

    Raises:
        AmbiguousError: It depends on the last digits of a double.
    """
    selection = _selection(query, model, now)
    frame = _rows(query, model, selection)
    main = _within(frame, selection, selection.main if selection else None)
    dimensions, keys = list(query.dimensions), _keys(query, selection)
    calculations = query.calculations
    kept: pl.DataFrame | None = None
    if calculations.HasField("top_n"):
        kept = top_values(calculations.top_n, model, main)
    found = _grouped(query, model, main, selection, kept, query.measures)
    if selection and query.time.gap_fill:
        _fill(found, query, model, selection)
    rows = {key: Row(key, dict(cells)) for key, cells in found.items()}
    if calculations.HasField("compare_to"):
        assert selection is not None
        assert selection.main is not None
        other, matching = compared(selection.clock, selection.main, calculations.compare_to, selection.grain)
        names = list(calculations.compare_to.measures) or list(query.measures)
        before = _grouped(query, model, _within(frame, selection, other), selection, kept, names)
        shown = {selection.shown(b): selection.shown(to) for b, to in matching.items()}
        compare_rows(rows, before, names, model, shown if selection.grain else None)
    for share in calculations.shares:
        share_rows(rows, share, keys)
    for window in calculations.rolling_windows:
        assert selection is not None
        rolled = _rolled(window, query, model, frame, selection, kept)
        for key, row in rows.items():
            empty = {window.measure: empty_value(model, window.measure)}
            row.cells[f"{window.measure}__rolling"] = rolled.get(key, empty)[window.measure]
    wanted = [r for r in rows.values() if not query.HasField("having") or holds(query.having, r.cells)]
    columns = expected_columns(
        query, model, selection.name if selection and selection.grain else "", dimensions
    )
    return ordered(query, columns, keys, wanted)


def _rows(query: q.Query, model: OracleModel, selection: Selection | None) -> pl.DataFrame:
    """The rows that pass the filter, with the columns that the answer needs."""
    needed = {ROW_TIME, ROW_KEY, *query.dimensions, *(leaf.input for leaf in model.leaves(query.measures))}
    if selection:
        needed.add(selection.name)
    rows = model.frame.lazy()
    if query.HasField("filter"):
        rows = rows.filter(expression(query.filter, model.types))
    return rows.select([name for name in model.frame.columns if name in needed]).collect()


def _selection(query: q.Query, model: OracleModel, now: int) -> Selection | None:
    if not query.HasField("time"):
        return None
    name = query.time.dimension or model.default_time
    dated = model.dimensions[name].type == "DATE"
    clock = zone_clock("UTC" if dated else query.time.zone or "UTC")
    grain = grain_name(query.time.grain)
    bounds = resolved(query.time, now, dated=dated)
    return Selection(name, dated, clock, grain, period(clock, *bounds, grain) if bounds else None)


def _keys(query: q.Query, selection: Selection | None) -> list[str]:
    """Names of the key columns of the answer, the flag of top N last."""
    keys = [selection.name] if selection and selection.grain else []
    keys += query.dimensions
    return [*keys, *other_column(query)]


def _within(frame: pl.DataFrame, selection: Selection | None, range_: Period | None) -> pl.DataFrame:
    """The rows of the range, with their buckets."""
    if selection is None or range_ is None:
        return frame
    instant = pl.col(selection.name).cast(pl.Int64) * (DAY if selection.dated else 1)
    # An unknown instant is in no range.
    inside = frame.filter((instant >= range_.start) & (instant < range_.end))
    if not selection.grain:
        return inside
    instants = inside.select(instant).to_series().to_numpy()
    return inside.with_columns(pl.Series(BUCKET, selection.clock.labels(instants, selection.grain), pl.Int64))


def _grouped(
    query: q.Query,
    model: OracleModel,
    frame: pl.DataFrame,
    selection: Selection | None,
    kept: pl.DataFrame | None,
    measures: Sequence[str],
) -> Groups:
    """Finished measures by the keys of the answer, after top N."""
    if kept is not None:
        frame = _renamed(frame, query.calculations.top_n, kept)
    bucketed = selection is not None and bool(selection.grain)
    by = [*([BUCKET] if bucketed else []), *query.dimensions, *other_column(query)]
    found = groups(model, frame, by, measures)
    if not bucketed:
        return found
    assert selection is not None
    return {(selection.shown(_int(key[0])), *key[1:]): cells for key, cells in found.items()}


def _renamed(frame: pl.DataFrame, top: q.TopN, kept: pl.DataFrame) -> pl.DataFrame:
    """The rows of the kept values; with other, the rest under null and a flag."""
    if not top.other:
        return frame.join(kept, on=top.dimension, how="semi", nulls_equal=True)
    flag = f"{top.dimension}__other"
    marked = frame.join(
        kept.with_columns(pl.lit(False).alias(flag)), on=top.dimension, how="left", nulls_equal=True
    )
    marked = marked.with_columns(pl.col(flag).fill_null(value=True))
    return marked.with_columns(pl.when(~pl.col(flag)).then(pl.col(top.dimension)).alias(top.dimension))


def _fill(found: Groups, query: q.Query, model: OracleModel, selection: Selection) -> None:
    """Adds a row for every bucket and every group of the result."""
    assert selection.main is not None
    rest = {key[1:] for key in found} if query.dimensions else {()}
    empty: Mapping[str, Cell] = {name: empty_value(model, name) for name in query.measures}
    for bucket in selection.main.buckets:
        for other in rest:
            key: Key = (selection.shown(bucket), *other)
            found.setdefault(key, dict(empty))


def _rolled(
    window: q.RollingWindow,
    query: q.Query,
    model: OracleModel,
    frame: pl.DataFrame,
    selection: Selection,
    kept: pl.DataFrame | None,
) -> Groups:
    """The measure over every window: each row is counted in its own bucket and the ones after it."""
    assert selection.main is not None
    clock, grain, main = selection.clock, selection.grain, selection.main
    start = clock.earlier(main.buckets[0], grain, window.buckets - 1)
    longer = period(clock, start, main.end, grain)
    positions = pl.DataFrame({BUCKET: longer.buckets, "#position": range(len(longer.buckets))})
    steps = pl.DataFrame({"#step": range(window.buckets)})
    rows = _within(frame, selection, longer).join(positions, on=BUCKET).join(steps, how="cross")
    later = pl.col("#position") + pl.col("#step")
    rows = rows.with_columns(later.alias("#position")).drop(BUCKET).join(positions, on="#position")
    return _grouped(query, model, rows, selection, kept, [window.measure])


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
