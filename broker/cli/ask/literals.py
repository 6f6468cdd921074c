"""Values as people write them: ``JFK``, ``'UA'``, ``15``, ``12.5``, ``true``, ``2013-01-31``, ``2013-01-31T08:00Z``.

What is not in quotes is read as the narrowest thing it looks like. A number with a point is an exact decimal, which the
broker compares with decimals and doubles alike; digits with a leading zero are text, since they are rarely a quantity.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from broker.cli.ask.problems import UnreadableError
from querybroker.v1.query_pb2 import Value

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_DECIMAL = re.compile(r"[+-]?(0|[1-9]\d*)\.\d+")
_DOUBLE = re.compile(r"[+-]?\d+(\.\d+)?[eE][+-]?\d+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(?P<zone>[Zz]|[+-]\d\d:\d\d)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = 1 << 63


def parse_value(text: str) -> Value:
    """The value that unquoted text means. Raises `UnreadableError` when it looks like something it is not."""
    if _INTEGER.fullmatch(text):
        return _integer(int(text))
    if _DECIMAL.fullmatch(text):
        return Value(decimal_value=text.removeprefix("+"))
    if _DOUBLE.fullmatch(text):
        return Value(double_value=float(text))
    if text.lower() in ("true", "false"):
        return Value(bool_value=text.lower() == "true")
    if text.lower() == "null":
        raise UnreadableError("null is no value to compare with; write `is null` or `is not null`")
    if _DATE.fullmatch(text):
        return Value(date_value=parse_date(text))
    if _INSTANT.fullmatch(text):
        return Value(timestamp_value=parse_instant(text))
    return Value(string_value=text)


def value_of(given: object) -> Value:
    """The value that a scalar of a YAML or JSON file means; its text is text, quoted or not."""
    match given:
        case bool():
            return Value(bool_value=given)
        case int():
            return _integer(given)
        case float() if math.isfinite(given):
            return Value(decimal_value=f"{Decimal(repr(given)):f}")
        case datetime():
            return Value(timestamp_value=instant_of(given))
        case date():
            return Value(date_value=Date(year=given.year, month=given.month, day=given.day))
        case str():
            return Value(string_value=given)
        case _:
            pass
    raise UnreadableError(f"must be a text, a number, true, false, a date or an instant, not {shown(given)}")


def parse_date(text: str) -> Date:
    """A calendar date, as ``2013-01-31``."""
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        day = date.fromisoformat(text)
    except ValueError:
        raise UnreadableError(f"{text!r} is not a date; write it as 2013-01-31") from None
    return Date(year=day.year, month=day.month, day=day.day)


def parse_instant(text: str) -> Timestamp:
    """An instant with its offset, as ``2013-01-31T08:00:00Z`` or ``2013-01-31T08:00-05:00``."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise UnreadableError(f"{text!r} is not an instant; write it as 2013-01-31T08:00:00Z")
    if not match["zone"]:
        raise UnreadableError(f"{text!r} does not say which clock: append Z, or an offset such as -05:00")
    try:
        return instant_of(datetime.fromisoformat(text.upper()))
    except ValueError:
        raise UnreadableError(f"{text!r} is not in the calendar") from None


def instant_of(moment: datetime) -> Timestamp:
    """An instant; one without a zone, as YAML reads ``2013-01-31 08:00:00``, is in UTC."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    seconds, rest = divmod(since, timedelta(seconds=1))
    return Timestamp(seconds=seconds, nanos=rest.microseconds * 1000)


def shown(given: object) -> str:
    """What was given, for an error."""
    if given is None:
        return "nothing"
    if isinstance(given, dict | list):
        return "a mapping" if isinstance(given, dict) else "a list"
    return repr(given)


def _integer(number: int) -> Value:
    if not -_INT64 <= number < _INT64:
        raise UnreadableError(f"{number} does not fit into 64 bits")
    return Value(int64_value=number)
