"""Queries and policies from Python values.

    query(
        "flights",
        measures=["flights", "avg_delay"],
        dimensions=["carrier"],
        time=("2013-01-01", "2014-01-01"),
        grain="month",
        zone="America/New_York",
        where={"origin": ["JFK", "LGA"]},
        order_by="-flights",
        limit=10,
    )

Every function returns a message of ``querybroker.v1``, so that anything may be changed afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from querybroker.filters import Where, to_filter
from querybroker.v1 import answer_pb2, policy_pb2, query_pb2
from querybroker.values import Moment, Scalar, day, duration, moment, one_of, timestamp, value
from querybroker.values import grain as grain_of

Range = tuple[Moment, Moment] | query_pb2.RelativeTimeRange
Order = str | query_pb2.OrderKey
V = TypeVar("V", bound=int)


def query(
    dataset: str,
    *,
    measures: str | Iterable[str] = (),
    dimensions: str | Iterable[str] = (),
    time: Range | None = None,
    grain: str = "",
    zone: str = "",
    time_dimension: str = "",
    gap_fill: bool = False,
    where: Where | None = None,
    having: Where | None = None,
    order_by: Order | Iterable[Order] = (),
    limit: int = 0,
    compare_to: tuple[int, str] | None = None,
    share: str | Iterable[str] | Mapping[str, Iterable[str]] = (),
    rolling: Mapping[str, int] | None = None,
    top_n: query_pb2.TopN | None = None,
) -> query_pb2.Query:
    """A query.

    Args:
        dataset: Its name.
        measures: One name or several.
        dimensions: One name or several.
        time: ``(start, end)``, the end excluded, as dates, aware datetimes or ISO texts; or :func:`last`.
        grain: Bucket width: minute, fifteen_minutes, hour, day, week, month, quarter or year.
        zone: IANA zone of the buckets; UTC when empty.
        time_dimension: Another one than the dataset's default.
        gap_fill: Whether empty buckets are returned.
        where: Keeps rows; see :data:`querybroker.filters.Where`.
        having: Keeps groups, by measures.
        order_by: Columns, with ``-`` in front for descending.
        limit: Largest number of rows; 0 for all.
        compare_to: ``(1, "year")`` adds the values of a year before.
        share: Measures whose share of the total is added, or a mapping to the columns within which it is taken.
        rolling: Measures whose trailing window is added, with its length in buckets.
        top_n: See :func:`top`.
    """
    message = query_pb2.Query(
        dataset=dataset,
        measures=_names(measures),
        dimensions=_names(dimensions),
        order=_orders(order_by),
        limit=limit,
    )
    if time is not None or grain or zone or time_dimension or gap_fill:
        selection = query_pb2.TimeSelection(dimension=time_dimension, grain=grain_of(grain), zone=zone)
        selection.gap_fill = gap_fill
        if time is not None:
            _set_range(selection, time)
        message.time.CopyFrom(selection)
    if where is not None:
        message.filter.CopyFrom(to_filter(where))
    if having is not None:
        message.having.CopyFrom(to_filter(having))
    if compare_to is not None:
        count, unit = compare_to
        message.calculations.compare_to.CopyFrom(query_pb2.CompareTo(count=count, unit=grain_of(unit)))
    shares = share if isinstance(share, Mapping) else dict.fromkeys(_names(share), ())
    for measure, within in shares.items():
        message.calculations.shares.add(measure=measure, within=_names(within))
    for measure, buckets in (rolling or {}).items():
        message.calculations.rolling_windows.add(measure=measure, buckets=buckets)
    if top_n is not None:
        message.calculations.top_n.CopyFrom(top_n)
    return message


def sql(text: str, *parameters: Scalar) -> query_pb2.SqlQuery:
    """SQL over the datasets, with values for ``$1``, ``$2`` and so on; only where the server enables it."""
    return query_pb2.SqlQuery(text=text, parameters=[value(p) for p in parameters])


def last(count: int, unit: str, *, include_current: bool = False) -> query_pb2.RelativeTimeRange:
    """The last whole units before now, such as ``last(7, "day")``, or those up to the end of the current one."""
    return query_pb2.RelativeTimeRange(count=count, unit=grain_of(unit), include_current=include_current)


def top(
    count: int, dimension: str, *, by: str, other: bool = False, ascending: bool = False
) -> query_pb2.TopN:
    """The values of a dimension with the largest measure; ``other`` merges the rest into one row."""
    return query_pb2.TopN(count=count, dimension=dimension, by=by, other=other, ascending=ascending)


def policy(
    *,
    max_staleness: timedelta | float | None = None,
    accept: Iterable[str] = (),
    fallback: str = "",
    rollup: str = "",
    cache: str = "",
    edge: str = "",
    consistency: str = "",
    partial: str = "",
    on_deadline: str = "",
    max_relative_error: float | None = None,
) -> policy_pb2.AnswerPolicy:
    """What is acceptable as an answer; what is left out is the server's to decide.

    Args:
        max_staleness: Oldest acceptable age of the data; numbers are seconds.
        accept: Kinds of answer: live, cache_fresh, rollup, hybrid, cache_stale, rollup_stale, estimate,
            materialized.
        fallback: allow or fail.
        rollup: auto, require or forbid.
        cache: default, revalidate, bypass or only.
        edge: exact or snap.
        consistency: snapshot, bounded or any; of a whole dashboard.
        partial: forbid or allow.
        on_deadline: cancel or job.
        max_relative_error: Of estimated or sketched values, such as 0.02.

    Raises:
        ValueError: A word that is not in these lists.
    """
    p, a = policy_pb2, answer_pb2
    message = p.AnswerPolicy(
        accepted_kinds=[_word("accept", "ANSWER_KIND_", kind, a.AnswerKind.items()) for kind in accept],
        fallback_mode=_word("fallback", "FALLBACK_MODE_", fallback, p.FallbackMode.items()),
        rollup_mode=_word("rollup", "ROLLUP_MODE_", rollup, p.RollupMode.items()),
        cache_mode=_word("cache", "CACHE_MODE_", cache, p.CacheMode.items()),
        edge_mode=_word("edge", "EDGE_MODE_", edge, p.EdgeMode.items()),
        consistency=_word("consistency", "CONSISTENCY_", consistency, p.Consistency.items()),
        partial_mode=_word("partial", "PARTIAL_MODE_", partial, p.PartialMode.items()),
        on_deadline=_word("on_deadline", "DEADLINE_ACTION_", on_deadline, p.DeadlineAction.items()),
        max_relative_error=max_relative_error,
    )
    if max_staleness is not None:
        message.max_staleness.CopyFrom(duration(max_staleness))
    return message


def _word(argument: str, prefix: str, word: str, items: Iterable[tuple[str, V]]) -> V:
    known = {name.removeprefix(prefix).lower(): number for name, number in items}
    unspecified = known.pop("unspecified")
    return one_of(argument, word.lower(), known) if word else unspecified


def _names(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _orders(given: Order | Iterable[Order]) -> list[query_pb2.OrderKey]:
    return [_order(key) for key in ([given] if isinstance(given, str | query_pb2.OrderKey) else given)]


def _order(key: Order) -> query_pb2.OrderKey:
    if isinstance(key, query_pb2.OrderKey):
        return key
    if key.startswith("-"):
        return query_pb2.OrderKey(member=key[1:], direction=query_pb2.SORT_DIRECTION_DESC)
    return query_pb2.OrderKey(member=key)


def _set_range(selection: query_pb2.TimeSelection, given: Range) -> None:
    if isinstance(given, query_pb2.RelativeTimeRange):
        selection.relative.CopyFrom(given)
        return
    if isinstance(given, str):  # it would be taken apart into letters
        raise TypeError(f"{given!r} is no range; give (start, end), the end excluded, or last(7, 'day')")
    start, end = moment(given[0]), moment(given[1])
    if isinstance(start, datetime) and isinstance(end, datetime):
        selection.absolute.start_time.CopyFrom(timestamp(start))
        selection.absolute.end_time.CopyFrom(timestamp(end))
    elif isinstance(start, datetime) or isinstance(end, datetime):
        raise TypeError("a range goes from date to date or from datetime to datetime")
    else:
        selection.dates.start_date.CopyFrom(day(start))
        selection.dates.end_date.CopyFrom(day(end))
