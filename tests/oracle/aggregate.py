"""Finished values of measures by group, straight from the rows: no partial states, no merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import polars as pl

from tests.oracle.cells import (
    AmbiguousError,
    Anything,
    Between,
    Cell,
    distinct_limits,
    near,
    number,
    one_nan,
    quantile_limits,
    slack_of,
    within,
)
from tests.oracle.model import COUNTS, ROW_KEY, ROW_TIME, MeasureSpec, OracleModel

Key = tuple[object, ...]
Groups = dict[Key, dict[str, Cell]]


def groups(model: OracleModel, frame: pl.DataFrame, keys: Sequence[str], measures: Sequence[str]) -> Groups:
    """The measures by key. Without keys there is one group, even without rows."""
    leaves = model.leaves(measures)
    expressions = [_expression(leaf).alias(leaf.name) for leaf in leaves]
    if keys:
        grouped = frame.group_by(keys).agg(*expressions)
    else:
        grouped = frame.select(expressions) if leaves else pl.DataFrame([{"": None}])
    found: Groups = {}
    for row in grouped.iter_rows(named=True):
        cells = {leaf.name: _finished(leaf, row[leaf.name]) for leaf in leaves}
        for name in measures:
            cells.setdefault(name, _ratio(model.measures[name], cells) if name not in cells else None)
        found[one_nan(row[key] for key in keys)] = cells
    return found


def empty_value(model: OracleModel, name: str) -> Cell:
    """The value where there are no rows: counts are 0, others null."""
    return 0 if model.measures[name].kind in COUNTS else None


def _expression(leaf: MeasureSpec) -> pl.Expr:
    """The aggregate of a measure's input; its nulls are not there."""
    values = pl.col(leaf.input).drop_nulls()
    doubles = values.cast(pl.Float64)
    in_order = pl.col(leaf.input).sort_by(ROW_TIME, ROW_KEY).drop_nulls()
    some = values.len() > 0
    return {
        "COUNT": values.len(),
        "SUM": pl.when(some).then(values.sum()),
        "MIN": _extreme(leaf, values, "min"),
        "MAX": _extreme(leaf, values, "max"),
        "AVG": pl.when(some).then(pl.struct(s=values.sum(), n=values.len())),
        "VARIANCE": doubles.var(ddof=1),
        "STDDEV": doubles.std(ddof=1),
        "FIRST": in_order.first(),
        "LAST": in_order.last(),
        "APPROX_DISTINCT": values.n_unique(),
        "EXACT_DISTINCT": values.n_unique(),
        "APPROX_PERCENTILE": doubles.sort().implode(),
        "EXACT_PERCENTILE": doubles.quantile(leaf.percentile, interpolation="linear"),
    }[leaf.kind]


def _extreme(leaf: MeasureSpec, values: pl.Expr, which: str) -> pl.Expr:
    """The least or the greatest value, NaN being above all numbers."""
    if leaf.type != "DOUBLE":
        return values.min() if which == "min" else values.max()
    numbers, nan = values.filter(values.is_not_nan()), pl.lit(float("nan"))
    if which == "min":
        return pl.when(numbers.len() > 0).then(numbers.min()).when(values.len() > 0).then(nan)
    return pl.when(values.is_nan().any()).then(nan).otherwise(numbers.max())


def _finished(leaf: MeasureSpec, raw: object) -> Cell:
    if leaf.kind == "APPROX_DISTINCT":
        assert isinstance(raw, int)
        return distinct_limits(raw)
    if leaf.kind == "APPROX_PERCENTILE":
        assert isinstance(raw, list)
        return quantile_limits(raw, leaf.percentile)
    if raw is None:
        return None
    match leaf.kind, leaf.type:
        case "AVG", _:
            assert isinstance(raw, dict)
            value = float(raw["s"]) / raw["n"]
            return value if leaf.type == "INT64" else near(value)
        case "VARIANCE", _:
            return near(float(str(raw)), 1e-8, 1e-9)
        case "STDDEV", _:
            return near(float(str(raw)), 1e-8, 1e-7)
        case ("SUM", "DOUBLE") | ("EXACT_PERCENTILE", _):
            return near(float(str(raw)))
        case _:
            return raw


def _ratio(spec: MeasureSpec, cells: Mapping[str, Cell]) -> Cell:
    above, below = cells[spec.numerator], cells[spec.denominator]
    if isinstance(above, Between) or isinstance(below, Between):
        raise AmbiguousError("ratios of sketches are not generated")
    return divided(above, below)


def divided(above: Cell, below: Cell) -> Cell:
    """A quotient as a double, null when an operand is null or the divisor 0, with the error of its operands."""
    if above is None or below is None:
        return None
    slack = slack_of(below)
    divisor = float(number(below))
    if abs(divisor) <= 10 * slack:  # exactly 0 when there is no slack
        return Anything() if slack else None
    quotient = float(number(above)) / divisor
    if isinstance(number(above), Decimal) or isinstance(number(below), Decimal):
        return near(quotient)
    error = (slack_of(above) + abs(quotient) * slack) / abs(divisor)
    return within(quotient, 2 * error)
