"""Ranges of rollups on the command line: as those of questions, and open at an end as ``2020-01-01..``."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from broker.domain.rollup import Span
    from querybroker.v1.answer_pb2 import TimeInterval


def interval_of(text: str, zone: str) -> TimeInterval | None:
    """The interval that a range means, its dates beginning in the zone; None for everything (empty)."""
    from google.protobuf.timestamp_pb2 import Timestamp

    from querybroker.v1.answer_pb2 import TimeInterval

    if not text:
        return None
    start, end = _ends(text, zone)
    interval = TimeInterval()
    for end_time, moment in ((interval.start_time, start), (interval.end_time, end)):
        if moment is not None:
            stamp = Timestamp()
            stamp.FromDatetime(moment)
            end_time.CopyFrom(stamp)
    return interval


def span_of(text: str, zone: str) -> Span:
    """The same as a span."""
    from broker.domain.rollup import FAR_FUTURE, FAR_PAST, Span, micros

    start, end = _ends(text, zone) if text else (None, None)
    return Span(FAR_PAST if start is None else micros(start), FAR_FUTURE if end is None else micros(end))


def _ends(text: str, zone: str) -> tuple[datetime | None, datetime | None]:
    """The ends, in UTC; None for one that is open."""
    from broker.cli.ask.problems import UnreadableError
    from broker.cli.ask.ranges import parse_range

    first, dots, last = (part.strip() for part in text.partition(".."))
    try:
        if dots and not (first and last):
            if not (first or last):
                raise UnreadableError("a range needs a beginning or an end")
            return (_moment(first, zone) if first else None), (_moment(last, zone) if last else None)
        parsed = parse_range(text)
        if "relative" in parsed:
            raise UnreadableError(
                "the range of a rollup is one of dates or instants, as 2013-04 or 2013-01-01.."
            )
        if "absolute" in parsed:
            return _moment(first, zone), _moment(last, zone)
        dates = parsed["dates"]
        assert isinstance(dates, dict)
        days = [date(d.year, d.month, d.day).isoformat() for d in (dates["start_date"], dates["end_date"])]
        return _moment(days[0], zone), _moment(days[1], zone)
    except UnreadableError as error:
        raise click.BadParameter(f"{error}.", param_hint="--range") from None


def _moment(text: str, zone: str) -> datetime:
    from zoneinfo import ZoneInfo

    from broker.cli.ask.literals import parse_date, parse_instant
    from broker.domain.timegrid import local_midnight

    if len(text) > len("2013-01-01"):
        return parse_instant(text).ToDatetime(UTC)
    day = parse_date(text)
    return local_midnight(date(day.year, day.month, day.day), ZoneInfo(zone or "UTC"))
