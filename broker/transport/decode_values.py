"""Single values of a request: names, numbers, instants, dates, durations, decimals.

Every function takes the value, its path in the request and the list of violations found so far. A bad value adds a
violation and yields a placeholder, so that decoding goes on and all violations are named at once; callers throw the
result away when anything was found.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from broker.domain.errors import Violation
from broker.domain.values import Scalar
from broker.transport.enums import E, EnumPair, V
from querybroker.v1 import query_pb2

MAX_NAME = 128
MAX_TEXT = 65_536
MAX_DECIMAL = 100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_SECOND = -62_135_596_800
LAST_SECOND = 253_402_300_799
MAX_DURATION = 315_576_000_000
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_/-]{0,63}")
# Not in the IANA database: copies with leap seconds, and names that mean something else on every machine.
_FOREIGN_ZONES = ("right/", "posix/", "localtime", "posixrules", "Factory")

Found = list[Violation]


def at(path: str, name: str) -> str:
    """Path of a field inside the message at ``path``; the request itself has the empty path."""
    return f"{path}.{name}" if path else name


def required_name(text: str, path: str, found: Found) -> str:
    """A name that must be given."""
    if not text:
        found.append(Violation(path, "is required", "REQUIRED"))
    return short_text(text, path, found)


def short_text(text: str, path: str, found: Found, limit: int = MAX_NAME) -> str:
    """A text of bounded length that a database can hold."""
    if len(text) > limit:
        found.append(Violation(path, f"has {len(text)} characters; at most {limit} are allowed", "TOO_LONG"))
    if "\0" in text:
        found.append(Violation(path, "holds a NUL character, which no text may", "INVALID_TEXT"))
    return text


def at_least(number: int, minimum: int, path: str, found: Found, maximum: int | None = None) -> int:
    """An integer within bounds."""
    if number < minimum:
        text = "must not be negative" if minimum == 0 else f"must be at least {minimum}"
        found.append(Violation(path, f"{text}, and is {number}", "OUT_OF_RANGE"))
    elif maximum is not None and number > maximum:
        found.append(Violation(path, f"must be at most {maximum}, and is {number}", "OUT_OF_RANGE"))
    return number


def count(number: int, maximum: int, path: str, found: Found, what: str, minimum: int = 0) -> bool:
    """Whether a list has an allowed length."""
    if number < minimum:
        found.append(Violation(path, f"at least {minimum} of the {what} must be given", "REQUIRED"))
    elif number > maximum:
        found.append(Violation(path, f"{number} {what} are given; at most {maximum} are allowed", "TOO_MANY"))
    return minimum <= number <= maximum


def choice(pair: EnumPair[E, V], number: int, path: str, found: Found, default: E) -> E:
    """A member of an enumeration, ``default`` when it is not set."""
    if number == 0:
        return default
    return _member(pair, number, path, found, default)


def required_choice(pair: EnumPair[E, V], number: int, path: str, found: Found, placeholder: E) -> E:
    """A member of an enumeration that must be set."""
    if number == 0:
        found.append(Violation(path, f"is required: one of {pair.names}", "REQUIRED"))
        return placeholder
    return _member(pair, number, path, found, placeholder)


def _member(pair: EnumPair[E, V], number: int, path: str, found: Found, placeholder: E) -> E:
    member = pair.to_domain.get(number)
    if member is None:
        found.append(Violation(path, f"{number} is not known; use one of {pair.names}", "UNKNOWN_ENUM"))
        return placeholder
    return member


def request_id(text: str, path: str, found: Found) -> str:
    """A UUID in its usual form, or nothing."""
    if text and not is_uuid(text):
        example = "123e4567-e89b-42d3-a456-426614174000"
        found.append(Violation(path, f"must be a UUID such as {example}, or empty", "INVALID_UUID"))
    return text


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID of 36 characters."""
    return _UUID.fullmatch(text) is not None


def zone(name: str, path: str, found: Found) -> str:
    """An IANA time zone; empty means UTC."""
    if not name:
        return "UTC"
    if _ZONE.fullmatch(name) and not name.startswith(_FOREIGN_ZONES):
        try:
            ZoneInfo(name)
            return name
        except (KeyError, ValueError, OSError):
            pass  # unknown; a directory of the database such as "America" is an OSError
    shown = name if len(name) <= 64 else f"{name[:64]}…"
    found.append(Violation(path, f"{shown!r} is not an IANA time zone such as Europe/Berlin", "UNKNOWN_ZONE"))
    return "UTC"


def instant(message: Timestamp, path: str, found: Found) -> datetime:
    """An instant with microseconds, in UTC."""
    if not _timestamp_in_range(message, path, found):
        return EPOCH
    if message.nanos % 1000:
        found.append(Violation(path, "must be a whole number of microseconds", "PRECISION"))
    return EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def bound(message: Timestamp, path: str, found: Found) -> datetime:
    """An end of a half-open range, moved up to the next microsecond.

    Stored instants are whole microseconds, so both ``t >= bound`` and ``t < bound`` keep their meaning.
    """
    if not _timestamp_in_range(message, path, found):
        return EPOCH
    micros = -(-message.nanos // 1000)
    if message.seconds == LAST_SECOND and micros == 1_000_000:
        found.append(Violation(path, "must lie in the years 0001 to 9999", "OUT_OF_RANGE"))
        return EPOCH
    return EPOCH + timedelta(seconds=message.seconds, microseconds=micros)


def _timestamp_in_range(message: Timestamp, path: str, found: Found) -> bool:
    if not FIRST_SECOND <= message.seconds <= LAST_SECOND:
        found.append(Violation(path, "must lie in the years 0001 to 9999", "OUT_OF_RANGE"))
        return False
    if not 0 <= message.nanos <= 999_999_999:
        text = f"nanos must be from 0 to 999999999, and is {message.nanos}"
        found.append(Violation(path, text, "OUT_OF_RANGE"))
        return False
    return True


def day(message: Date, path: str, found: Found) -> date:
    """A whole calendar date; dates without a year, month or day are refused."""
    try:
        return date(message.year, message.month, message.day)
    except (ValueError, OverflowError):  # an int32 may be larger than what date() takes
        text = f"{message.year:04d}-{message.month:02d}-{message.day:02d}"
        found.append(
            Violation(path, f"{text} is not a calendar date of the years 0001 to 9999", "INVALID_DATE")
        )
        return EPOCH.date()


def seconds(message: Duration, path: str, found: Found, minimum: float = 0.0) -> float:
    """A duration in seconds."""
    whole, nanos = message.seconds, message.nanos
    if abs(whole) > MAX_DURATION or abs(nanos) > 999_999_999 or whole * nanos < 0:
        found.append(Violation(path, "is not a valid duration", "INVALID_DURATION"))
        return minimum
    value = whole + nanos / 1e9
    if value < minimum:
        text = "must not be negative" if minimum == 0 else f"must be at least {minimum:g} s"
        found.append(Violation(path, f"{text}, and is {value:g} s", "OUT_OF_RANGE"))
    return value


def decimal(text: str, path: str, found: Found) -> Decimal:
    """An exact decimal in plain notation."""
    if len(text) > MAX_DECIMAL or not _DECIMAL.fullmatch(text):
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        message = (
            f"{shown!r} is not a decimal in plain notation such as -12.50 of at most {MAX_DECIMAL} characters"
        )
        found.append(Violation(path, message, "INVALID_DECIMAL"))
        return Decimal(0)
    return Decimal(text)


def scalar(message: query_pb2.Value, path: str, found: Found) -> Scalar:
    """A typed value that is not null."""
    kind = message.WhichOneof("kind")
    match kind:
        case "string_value":
            return short_text(message.string_value, f"{path}.string_value", found, MAX_TEXT)
        case "int64_value":
            return message.int64_value
        case "double_value":
            if not math.isfinite(message.double_value):
                text = f"must be a finite number, and is {message.double_value}"
                found.append(Violation(f"{path}.double_value", text, "NOT_FINITE"))
            return message.double_value
        case "bool_value":
            return message.bool_value
        case "decimal_value":
            return decimal(message.decimal_value, f"{path}.decimal_value", found)
        case "timestamp_value":
            return instant(message.timestamp_value, f"{path}.timestamp_value", found)
        case "date_value":
            return day(message.date_value, f"{path}.date_value", found)
        case _:
            text = "has no value; to compare with null use FILTER_OPERATOR_IS_NULL or FILTER_OPERATOR_IS_NOT_NULL"
            found.append(Violation(path, text, "REQUIRED"))
            return 0
