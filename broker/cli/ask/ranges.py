"""Ranges of time as people write them, all half-open.

- ``2013-01-01..2013-04-01``: two dates, each the first instant of that date in the zone;
- ``2013-01-01T08:00Z..2013-01-02T08:00Z``: two instants;
- ``2013``, ``2013-Q2``, ``2013-04``, ``2013-04-05``: a year, quarter, month or day of the zone;
- ``last 7 days``: the whole units before now; ``last 7 days to date`` counts the current one, to its end, as well;
- ``this month``: the unit that contains now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from google.type.date_pb2 import Date

from broker.cli.ask.literals import parse_date, parse_instant
from broker.cli.ask.problems import UnreadableError

_RELATIVE = re.compile(r"last(?:\s+(\d+))?\s+(\w+?)s?(\s+to\s+date)?", re.IGNORECASE)
_CURRENT = re.compile(r"this\s+(\w+)", re.IGNORECASE)
_PERIOD = re.compile(r"(\d{4})(?:-(?:Q([1-4])|(\d\d)(?:-(\d\d))?))?", re.IGNORECASE)
_EXAMPLES = "2013-01-01..2013-04-01, 2013-04, `last 7 days` or `this month`"


def parse_range(text: str) -> Mapping[str, object]:
    """The field of ``TimeSelection`` that the text means, with its value. Raises `UnreadableError`."""
    text = text.strip()
    start, dots, end = text.partition("..")
    if dots:
        return _between(start.strip(), end.strip())
    if match := _CURRENT.fullmatch(text):
        return {"relative": {"count": 1, "unit": match[1], "include_current": True}}
    if match := _RELATIVE.fullmatch(text):
        return {
            "relative": {"count": int(match[1] or 1), "unit": match[2], "include_current": bool(match[3])}
        }
    if match := _PERIOD.fullmatch(text):
        return _period(match, text)
    raise UnreadableError(f"cannot read the range {text!r}; write it as {_EXAMPLES}")


def _between(start: str, end: str) -> Mapping[str, object]:
    if not start or not end:
        raise UnreadableError("a range needs a beginning and an end, as 2013-01-01..2013-04-01")
    if len(start) == len(end) == len("2013-01-01"):
        return {"dates": {"start_date": parse_date(start), "end_date": parse_date(end)}}
    return {"absolute": {"start_time": parse_instant(start), "end_time": parse_instant(end)}}


def _period(match: re.Match[str], text: str) -> Mapping[str, object]:
    year, quarter, month, day = (int(part) if part else 0 for part in match.groups())
    try:
        if day:
            first = date(year, month, day)
            after = date.fromordinal(first.toordinal() + 1)
        elif quarter or month:
            first = date(year, quarter * 3 - 2 if quarter else month, 1)
            months = first.month - 1 + (3 if quarter else 1)
            after = date(year + months // 12, months % 12 + 1, 1)
        else:
            first, after = date(year, 1, 1), date(year + 1, 1, 1)
    except ValueError:
        raise UnreadableError(f"{text!r} is not in the calendar") from None
    return {"dates": {"start_date": _date(first), "end_date": _date(after)}}


def _date(day: date) -> Date:
    return Date(year=day.year, month=day.month, day=day.day)
