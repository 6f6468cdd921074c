"""Queries: protobuf to domain, with every violation of their shape.

Whether names exist and types fit is not checked here: ``policy.resolve`` knows the dataset.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.domain.errors import Violation
from broker.domain.query import (
    AbsoluteRange,
    Calculations,
    CompareTo,
    DateRange,
    Filter,
    Grain,
    OrderKey,
    Query,
    RelativeRange,
    RollingWindow,
    ShareOfTotal,
    SqlQuery,
    TimeRange,
    TimeSelection,
    TopN,
)
from broker.transport.decode_filter import Budget, decode_filter
from broker.transport.decode_values import (
    EPOCH,
    Found,
    at,
    at_least,
    bound,
    count,
    day,
    required_choice,
    required_name,
    scalar,
    short_text,
    zone,
)
from broker.transport.enums import GRAIN
from querybroker.v1 import query_pb2

MAX_MEASURES = 100
MAX_DIMENSIONS = 32
MAX_ORDER = 16
MAX_CALCULATIONS = 32
MAX_UNITS = 100_000
MAX_WINDOW = 10_000
MAX_TOP = 10_000
MAX_SQL = 100_000
MAX_PARAMETERS = 1_000


def decode_query(message: query_pb2.Query, path: str, found: Found, request: Budget | None = None) -> Query:
    """A semantic query; ``request`` counts the filters of a request with several."""
    dataset = required_name(message.dataset, at(path, "dataset"), found)
    return Query(
        dataset=dataset.removeprefix("datasets/"),  # the catalog's resource names are understood as well
        measures=_names(message.measures, at(path, "measures"), found, MAX_MEASURES),
        dimensions=_names(message.dimensions, at(path, "dimensions"), found, MAX_DIMENSIONS),
        time=_time(message.time, at(path, "time"), found) if message.HasField("time") else None,
        filter=_tree(message.HasField("filter"), message.filter, at(path, "filter"), found, request),
        having=_tree(message.HasField("having"), message.having, at(path, "having"), found, request),
        order=_order(message.order, at(path, "order"), found),
        limit=at_least(message.limit, 0, at(path, "limit"), found),
        calculations=_calculations(message.calculations, at(path, "calculations"), found)
        if message.HasField("calculations")
        else Calculations(),
    )


def decode_sql(message: query_pb2.SqlQuery, path: str, found: Found) -> SqlQuery:
    """SQL text with its parameters."""
    text = short_text(message.text, at(path, "text"), found, MAX_SQL)
    if not text.strip():
        found.append(Violation(at(path, "text"), "is required: one SELECT statement", "REQUIRED"))
    values = at(path, "parameters")
    count(len(message.parameters), MAX_PARAMETERS, values, found, "parameters")
    parameters = message.parameters[:MAX_PARAMETERS]
    return SqlQuery(text, tuple(scalar(v, f"{values}[{i}]", found) for i, v in enumerate(parameters)))


def _tree(
    given: bool, message: query_pb2.Filter, path: str, found: Found, request: Budget | None
) -> Filter | None:
    return decode_filter(message, path, found, request) if given else None


def _names(names: Sequence[str], path: str, found: Found, maximum: int) -> tuple[str, ...]:
    count(len(names), maximum, path, found, path.rpartition(".")[2])
    return tuple(required_name(name, f"{path}[{i}]", found) for i, name in enumerate(names[:maximum]))


def _time(message: query_pb2.TimeSelection, path: str, found: Found) -> TimeSelection:
    grain: Grain | None = None
    if message.grain:
        grain = required_choice(GRAIN, message.grain, f"{path}.grain", found, Grain.DAY)
    return TimeSelection(
        dimension=short_text(message.dimension, f"{path}.dimension", found),
        grain=grain,
        zone=zone(message.zone, f"{path}.zone", found),
        range=_range(message, path, found),
        gap_fill=message.gap_fill,
    )


def _range(message: query_pb2.TimeSelection, path: str, found: Found) -> TimeRange | None:
    match message.WhichOneof("range"):
        case "absolute":
            return _absolute(message.absolute, f"{path}.absolute", found)
        case "dates":
            return _dates(message.dates, f"{path}.dates", found)
        case "relative":
            relative, inner = message.relative, f"{path}.relative"
            units = at_least(relative.count, 1, f"{inner}.count", found, MAX_UNITS)
            unit = required_choice(GRAIN, relative.unit, f"{inner}.unit", found, Grain.DAY)
            return RelativeRange(units, unit, relative.include_current)
        case _:
            return None


def _absolute(message: query_pb2.AbsoluteTimeRange, path: str, found: Found) -> AbsoluteRange:
    known = len(found)
    _require(message.HasField("start_time"), f"{path}.start_time", found)
    _require(message.HasField("end_time"), f"{path}.end_time", found)
    start = bound(message.start_time, f"{path}.start_time", found)
    end = bound(message.end_time, f"{path}.end_time", found)
    if len(found) == known and start >= end:
        found.append(Violation(f"{path}.end_time", "must be after start_time", "EMPTY_RANGE"))
    return AbsoluteRange(start, end)


def _dates(message: query_pb2.DateRange, path: str, found: Found) -> DateRange:
    known = len(found)
    start = end = EPOCH.date()
    if _require(message.HasField("start_date"), f"{path}.start_date", found):
        start = day(message.start_date, f"{path}.start_date", found)
    if _require(message.HasField("end_date"), f"{path}.end_date", found):
        end = day(message.end_date, f"{path}.end_date", found)
    if len(found) == known and start >= end:
        found.append(Violation(f"{path}.end_date", "must be after start_date", "EMPTY_RANGE"))
    return DateRange(start, end)


def _require(given: bool, path: str, found: Found) -> bool:
    if not given:
        found.append(Violation(path, "is required", "REQUIRED"))
    return given


def _order(keys: Sequence[query_pb2.OrderKey], path: str, found: Found) -> tuple[OrderKey, ...]:
    count(len(keys), MAX_ORDER, path, found, "order keys")
    return tuple(_order_key(key, f"{path}[{i}]", found) for i, key in enumerate(keys[:MAX_ORDER]))


def _order_key(key: query_pb2.OrderKey, path: str, found: Found) -> OrderKey:
    member = required_name(key.member, f"{path}.member", found)
    if key.direction not in query_pb2.SortDirection.values():
        text = f"{key.direction} is not known; use SORT_DIRECTION_ASC or SORT_DIRECTION_DESC"
        found.append(Violation(f"{path}.direction", text, "UNKNOWN_ENUM"))
    if key.nulls not in query_pb2.NullOrder.values():
        text = f"{key.nulls} is not known; use NULL_ORDER_FIRST or NULL_ORDER_LAST"
        found.append(Violation(f"{path}.nulls", text, "UNKNOWN_ENUM"))
    descending = key.direction == query_pb2.SORT_DIRECTION_DESC
    return OrderKey(member, descending, key.nulls == query_pb2.NULL_ORDER_FIRST)


def _calculations(message: query_pb2.Calculations, path: str, found: Found) -> Calculations:
    shares, windows = at(path, "shares"), at(path, "rolling_windows")
    count(len(message.shares), MAX_CALCULATIONS, shares, found, "shares")
    count(len(message.rolling_windows), MAX_CALCULATIONS, windows, found, "rolling windows")
    return Calculations(
        top_n=_top_n(message.top_n, f"{path}.top_n", found) if message.HasField("top_n") else None,
        compare_to=_compare(message.compare_to, f"{path}.compare_to", found)
        if message.HasField("compare_to")
        else None,
        shares=tuple(
            ShareOfTotal(
                required_name(share.measure, f"{shares}[{i}].measure", found),
                _names(share.within, f"{shares}[{i}].within", found, MAX_DIMENSIONS),
            )
            for i, share in enumerate(message.shares[:MAX_CALCULATIONS])
        ),
        rolling=tuple(
            RollingWindow(
                required_name(window.measure, f"{windows}[{i}].measure", found),
                at_least(window.buckets, 2, f"{windows}[{i}].buckets", found, MAX_WINDOW),
            )
            for i, window in enumerate(message.rolling_windows[:MAX_CALCULATIONS])
        ),
    )


def _top_n(message: query_pb2.TopN, path: str, found: Found) -> TopN:
    return TopN(
        count=at_least(message.count, 1, f"{path}.count", found, MAX_TOP),
        dimension=required_name(message.dimension, f"{path}.dimension", found),
        by=required_name(message.by, f"{path}.by", found),
        other=message.other,
        ascending=message.ascending,
    )


def _compare(message: query_pb2.CompareTo, path: str, found: Found) -> CompareTo:
    return CompareTo(
        count=at_least(message.count, 1, f"{path}.count", found, MAX_UNITS),
        unit=required_choice(GRAIN, message.unit, f"{path}.unit", found, Grain.DAY),
        measures=_names(message.measures, f"{path}.measures", found, MAX_MEASURES),
    )
