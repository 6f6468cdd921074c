"""What of a plan is text and what is value.

The *shape* is the plan with its values removed: it decides the text of the statements, so statements are kept by it.
Values, sent as parameters: the beginnings of the time grid (one array, whatever its length; of days and weeks in UTC
the first alone), the bounds, the values of filter and having (the list of an IN is one array), the limit, and what row
policies take from the principal. Shape: the dataset, the names of dimensions, measures and policies, operators and
their nesting, order keys, whether there are a grid, bounds, a limit, and how many pieces of the bounds are read.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.filters import Shape, as_is, as_wire, shape_of
from broker.adapters.sql.values import Value, checked_text
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dimension, RowPolicy
from broker.domain.plan import Finish, Scan
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange
from broker.domain.rollup import FAR_FUTURE, FAR_PAST, Span, instant, micros
from broker.domain.timegrid import TimeGrid
from broker.domain.values import DataType


def scan_shape(scan: Scan, sql: DatasetSql, values: list[Value]) -> Shape:
    """The shape of a scan; its values are appended in the order in which the compiler makes places.

    Raises:
        BrokerError: PERMISSION_DENIED when a row policy needs an attribute that the principal lacks.
    """
    if scan.grid is not None:
        assert scan.time is not None, "a grid groups by the time dimension"
        assert scan.bounds is not None, "a grid covers bounds"
        values.append(beginnings(scan.grid, scan.time))
    spans = pieces(scan)
    if spans is not None:
        values += _ends(spans, _timed(scan))
    elif scan.bounds is not None:
        values += _bounds(scan.bounds, _timed(scan))
    filtered = shape_of(scan.filter, values, as_is)
    for policy in scan.policies:
        values += (principal_value(scan.principal, s, policy) for s in sql.policy_sources(policy))
    return (
        scan.time.name if scan.time is not None and restricted(scan) else "",
        None if scan.grid is None else scan.grid.days,
        None if spans is None else tuple([(lo == FAR_PAST, hi == FAR_FUTURE) for lo, hi in spans]),
        tuple([d.name for d in scan.dimensions]),
        tuple([m.name for m in scan.leaves]),
        filtered,
        tuple([p.name for p in scan.policies]),
    )


def finish_shape(finish: Finish, values: list[Value]) -> Shape:
    """The shape of what is done with the groups in the database: having, order and limit of a pushed-down plan."""
    if not finish.pushed_down:
        return ()
    having = shape_of(finish.having, values, as_wire)
    if finish.limit:
        values.append(finish.limit)
    outputs = tuple([output.column.name for output in finish.outputs])
    order = tuple([(k.member, k.descending, k.nulls_first) for k in finish.order])
    return (outputs, having, order, finish.limit > 0)


def restricted(scan: Scan) -> bool:
    """Whether the scan reads a part of the time dimension only."""
    return scan.bounds is not None or scan.pieces is not None


def pieces(scan: Scan) -> tuple[Span, ...] | None:
    """The parts of its bounds that a scan reads, or None when it has no pieces.

    Filled up with empty spans to a power of two, so that few numbers of pieces are shapes of their own.
    """
    if scan.pieces is None:
        return None
    bounds = scan.bounds
    low, high = (FAR_PAST, FAR_FUTURE) if bounds is None else (micros(bounds.start), micros(bounds.end))
    found = [Span(max(lo, low), min(hi, high)) for lo, hi in scan.pieces if max(lo, low) < min(hi, high)]
    if len(found) > 1:
        inner = next(end for span in found for end in span if end not in (FAR_PAST, FAR_FUTURE))
        missing = (1 << (len(found) - 1).bit_length()) - len(found)
        found += [Span(inner, inner)] * missing
    return tuple(found)


def dated(time: Dimension) -> bool:
    """Whether the dimension holds dates, which count as their midnight in UTC."""
    return time.type is DataType.DATE


def beginnings(grid: TimeGrid, time: Dimension) -> Value:
    """What a position in a grid is found by: its first date where instants are counted in days, else all beginnings."""
    if dated(time):
        return tuple([start.date() for start in grid.starts])
    return grid.starts[0].date() if grid.days else grid.starts


def _bounds(bounds: AbsoluteRange, time: Dimension) -> list[Value]:
    if dated(time):
        return [_first_date(bounds.start), _first_date(bounds.end)]
    return [bounds.start, bounds.end]


def _ends(spans: tuple[Span, ...], time: Dimension) -> list[Value]:
    """The ends of the spans in order, without those that reach an end of time."""
    found = [at for span in spans for end in span if (at := instant(end)) is not None]
    return [_first_date(at) for at in found] if dated(time) else list(found)


def _timed(scan: Scan) -> Dimension:
    assert scan.time is not None, "bounds and pieces are of the time dimension"
    return scan.time


def _first_date(instant: datetime) -> date:
    """The first date whose midnight in UTC is not before the instant."""
    day = instant.astimezone(UTC)
    return day.date() if day.time() == datetime.min.time() else day.date() + timedelta(days=1)


def principal_value(principal: Principal, source: str, policy: RowPolicy) -> str:
    """What a row policy takes from the principal."""
    if source == "tenant":
        value: str | None = principal.tenant
    elif source == "principal":
        value = principal.name
    else:
        value = principal.attributes.get(source.removeprefix("attributes."))
    if value is None:
        raise BrokerError(
            ErrorReason.PERMISSION_DENIED,
            f"Row policy {policy.name!r} needs {source!r}, which your identity does not carry. "
            "Ask an administrator to add it.",
            metadata={"policy": policy.name, "needs": source},
        )
    return checked_text(value, source)
