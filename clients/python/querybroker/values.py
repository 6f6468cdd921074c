"""Single values of requests from Python values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from querybroker.v1 import query_pb2

Scalar = str | int | float | bool | Decimal | datetime | date
"""A value that is not null; datetimes are aware."""
Moment = str | date | datetime
"""A date or an aware datetime, or its ISO text."""
V = TypeVar("V")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def value(given: object) -> query_pb2.Value:
    """A typed value.

    Raises:
        TypeError: A type that has no counterpart.
        ValueError: A datetime without a zone.
    """
    match given:
        case str():
            return query_pb2.Value(string_value=given)
        case bool():
            return query_pb2.Value(bool_value=given)
        case int():
            return query_pb2.Value(int64_value=given)
        case float():
            return query_pb2.Value(double_value=given)
        case Decimal():
            return query_pb2.Value(decimal_value=f"{given:f}")
        case datetime():
            return query_pb2.Value(timestamp_value=timestamp(given))
        case date():
            return query_pb2.Value(date_value=day(given))
        case None:
            raise TypeError("None is no value; compare with null by ('member', 'is null')")
        case _:
            raise TypeError(f"{type(given).__name__} is no type of the broker's values")


def timestamp(moment: datetime) -> Timestamp:
    """An instant.

    Raises:
        ValueError: The datetime has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; use an aware datetime")
    seconds, micros = divmod((moment - _EPOCH) // _MICROSECOND, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def day(given: date) -> Date:
    """A calendar date."""
    return Date(year=given.year, month=given.month, day=given.day)


def duration(given: timedelta | float) -> Duration:
    """A length of time; numbers are seconds."""
    length = given if isinstance(given, timedelta) else timedelta(seconds=given)
    seconds, micros = divmod(length // _MICROSECOND, 1_000_000)
    return Duration(seconds=seconds, nanos=micros * 1000)


def moment(given: Moment) -> date | datetime:
    """A date or a datetime, from itself or from its ISO text."""
    if not isinstance(given, str):
        return given
    return date.fromisoformat(given) if len(given) == len("2013-01-01") else datetime.fromisoformat(given)


def one_of(argument: str, word: str, words: Mapping[str, V]) -> V:
    """What a word stands for.

    Raises:
        ValueError: A word that is not in the list.
    """
    if word not in words:
        raise ValueError(f"{argument}={word!r} is not known; use one of {', '.join(words)}")
    return words[word]


def grain(name: str) -> query_pb2.TimeGrain.ValueType:
    """A bucket width by name; none when empty.

    Raises:
        ValueError: No such width.
    """
    if not name:
        return query_pb2.TIME_GRAIN_UNSPECIFIED
    names = [known.removeprefix("TIME_GRAIN_").lower() for known in query_pb2.TimeGrain.keys()[1:]]
    if name.lower() not in names:
        raise ValueError(f"{name!r} is no grain; use one of {', '.join(names)}")
    return query_pb2.TimeGrain.Value(f"TIME_GRAIN_{name.upper()}")
