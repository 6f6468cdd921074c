"""What of a plan is text and what is value.

The *shape* is the plan with its values removed: it decides the text of the statements, so statements are kept by it.
Values, sent as parameters: the beginnings of the time grid (one array, whatever its length), the bounds, the values of
filter and having (the list of an IN is one array), the limit, and what row policies take from the principal. Shape:
the dataset, the names of dimensions, measures and policies, operators and their nesting, order keys, and whether there
are a grid, bounds, a limit.
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
        values.append(_starts(scan.grid, scan.time))
    if scan.bounds is not None:
        assert scan.time is not None, "bounds are of the time dimension"
        values += _bounds(scan.bounds, scan.time)
    filtered = shape_of(scan.filter, values, as_is)
    for policy in scan.policies:
        values += (principal_value(scan.principal, s, policy) for s in sql.policy_sources(policy))
    return (
        scan.time.name if scan.time is not None and scan.bounds is not None else "",
        scan.grid is not None,
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


def dated(time: Dimension) -> bool:
    """Whether the dimension holds dates, which count as their midnight in UTC."""
    return time.type is DataType.DATE


def _starts(grid: TimeGrid, time: Dimension) -> Value:
    if dated(time):
        return tuple([start.date() for start in grid.starts])
    return grid.starts


def _bounds(bounds: AbsoluteRange, time: Dimension) -> list[Value]:
    if dated(time):
        return [_first_date(bounds.start), _first_date(bounds.end)]
    return [bounds.start, bounds.end]


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
