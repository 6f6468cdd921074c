"""What a scan asks of stored values: the range of a time dimension, and conditions on other dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from broker.domain.model import Dimension
from broker.domain.plan import Scan
from broker.domain.principal import Principal
from broker.domain.query import Condition, Filter, Operator
from broker.domain.rollup import ALWAYS, FAR_FUTURE, FAR_PAST, Rule, Span, micros
from broker.domain.values import DataType, Scalar
from broker.policy.rollups.normal import members

_DAY = timedelta(days=1)
_LAST = micros(datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a scan asks of rollups over one time dimension.

    ``span`` is the range of that dimension, from the bounds and from conditions on it; with ``nulls`` rows without a
    time are asked for as well. ``rest`` are the conjuncts that are left for stored values to meet, ``given`` everything
    that is known of the rows, ``problem`` says why a condition on the time cannot be met by whole buckets.
    """

    span: Span
    nulls: bool
    rest: tuple[Filter, ...]
    given: tuple[Filter, ...]
    problem: Rule | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a cover has to keep to, and what is known already: see :func:`broker.policy.rollups.cover.cover`."""

    lateness_allowed: float | None
    require: bool
    live: bool
    sealed: Sequence[Span]
    asked: Asked | None


def bounded(scan: Scan) -> bool:
    """Whether the scan restricts its time dimension other than by the filter."""
    return scan.time is not None and scan.bounds is not None


def asked_of(scan: Scan, time: Dimension, parts: Iterable[Filter], policy: tuple[Filter, ...]) -> Asked:
    """What a scan, whose filter has the conjuncts ``parts``, asks of rollups over a time dimension."""
    span, nulls, problem = ALWAYS, True, None
    rest: list[Filter] = []
    given = [*parts, *policy]
    if scan.bounds is not None and scan.time is not None and scan.time.name == time.name:
        start, end = scan.bounds.start, scan.bounds.end
        span, nulls = Span(micros(start), micros(end)), False
        given += _within(time, start, end)
    for part in parts:
        if time.name not in members(part):
            rest.append(part)
            continue
        nulls = False
        found = _span(part, time) if isinstance(part, Condition) else None
        if found is not None:
            span = Span(max(span.lo, found.lo), min(span.hi, found.hi))
        elif isinstance(part, Condition) and part.operator is Operator.IS_NULL:
            problem = Rule.NULL
        else:
            problem = problem or Rule.FILT
    return Asked(span, nulls, tuple(rest), tuple(given), problem)


def policy_conditions(scan: Scan) -> tuple[Condition, ...] | None:
    """The row policies of a scan with the values of its principal, as conditions on dimensions.

    None where one is no conjunction of equalities, or needs what the principal lacks: then the tables decide.
    """
    found: dict[Condition, None] = {}
    for policy in scan.policies:
        if policy.terms is None:
            return None
        for dimension, placeholder in policy.terms:
            value = _of_principal(scan.principal, placeholder)
            if value is None or scan.dataset.dimensions[dimension].type is not DataType.STRING:
                return None
            found[Condition(dimension, Operator.EQ, (value,))] = None
    return tuple(found)


def _of_principal(principal: Principal, placeholder: str) -> str | None:
    """The principal's value; None also for text that PostgreSQL would refuse."""
    if placeholder == "tenant":
        value: str | None = principal.tenant
    elif placeholder == "principal":
        value = principal.name
    else:
        value = principal.attributes.get(placeholder.removeprefix("attributes."))
    if value is None or "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        return None
    return value


def _span(condition: Condition, time: Dimension) -> Span | None:
    """The range that a condition on the time dimension means, or None when it means no range."""
    if condition.operator is Operator.IS_NOT_NULL:
        return ALWAYS
    if len(condition.values) != 1:
        return None
    ends = _ends(condition.values[0], time)
    if ends is None:
        return None
    at, after = ends
    if after > _LAST and condition.operator not in (Operator.GE, Operator.LT):
        return None
    match condition.operator:
        case Operator.EQ:
            return Span(at, after)
        case Operator.GE:
            return Span(at, FAR_FUTURE)
        case Operator.GT:
            return Span(after, FAR_FUTURE)
        case Operator.LT:
            return Span(FAR_PAST, at)
        case Operator.LE:
            return Span(FAR_PAST, after)
        case _:
            return None


def _ends(value: Scalar, time: Dimension) -> tuple[int, int] | None:
    """An instant and the next one; a date counts as its midnight in UTC, and the next one is that of the next day."""
    if time.type is DataType.DATE:
        if not isinstance(value, date) or isinstance(value, datetime) or value == date.max:
            return None
        return _midnight(value), _midnight(value + _DAY)
    if not isinstance(value, datetime):
        return None
    return micros(value), micros(value) + 1


def _within(time: Dimension, start: datetime, end: datetime) -> Iterator[Condition]:
    """What a range says of its dimension; a date is in it if its midnight in UTC is."""
    for operator, at in ((Operator.GE, start), (Operator.LT, end)):
        if time.type is not DataType.DATE:
            yield Condition(time.name, operator, (at,))
            continue
        day = at.astimezone(UTC).date()
        if micros(at) == _midnight(day):
            yield Condition(time.name, operator, (day,))
        elif day < date.max:
            yield Condition(time.name, operator, (day + _DAY,))


def _midnight(day: date) -> int:
    """Midnight of a date in UTC, in microseconds."""
    return micros(datetime(day.year, day.month, day.day, tzinfo=UTC))
