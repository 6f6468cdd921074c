"""Short forms for parts of a question: one line of text in place of a message.

==============  =============================================================
filter, having  a condition, see `broker.cli.ask.conditions`
order           ``-flights`` or ``flights desc nulls first``
range           ``2013-01-01..2013-04-01``, ``2013``, ``2013-04``, ``2013-Q2``, ``last 7 days``, ``this month``
top             ``5 dest by flights``, ``5 dest by flights with other``
compare         ``1 year`` or ``1 year of flights``
share           ``flights`` or ``flights within origin, month``
rolling         ``flights over 7``
==============  =============================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.type.date_pb2 import Date

from broker.cli.ask.conditions import parse_condition
from broker.cli.ask.literals import instant_of, parse_date, parse_instant, value_of
from broker.cli.ask.problems import UnreadableError
from broker.cli.ask.ranges import parse_range

ALIASES: Mapping[str, Mapping[str, str]] = {
    "querybroker.v1.Query": {
        "by": "dimensions",
        "where": "filter",
        "top": "calculations.top_n",
        "compare": "calculations.compare_to",
        "share": "calculations.shares",
        "rolling": "calculations.rolling_windows",
    },
    "querybroker.v1.TimeSelection": {"fill": "gap_fill"},
    "querybroker.v1.Panel": {"id": "panel_id"},
    "querybroker.v1.TopN": {"with_other": "other"},
}
"""Further keys of a message, each with the path of the field that it stands for."""

_PANEL_KEYS = frozenset({"id", "panel_id", "panelId", "policy"})
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_ORDER = re.compile(
    r"(?P<sign>[-+]?)(?P<member>\w+)(?:\s+(?P<word>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?"
)
_TOP = re.compile(r"(\d+)\s+(\w+)\s+by\s+(\w+)(\s+ascending)?(\s+with\s+other)?")
_COMPARE = re.compile(r"(\d+)\s+(\w+?)s?(?:\s+of\s+(.+))?")
_SHARE = re.compile(r"(\w+)(?:\s+within\s+(.+))?")
_ROLLING = re.compile(r"(\w+)\s+over\s+(\d+)")


def expand(message: str, given: object) -> object:
    """What ``given`` stands for where the message of that full name is wanted: a message, a mapping, or itself.

    Raises `UnreadableError`.
    """
    reader = None if isinstance(given, Message) else _READERS.get(message)
    return reader(given) if reader is not None else given


def parse_duration(given: object) -> Duration:
    """A length of time, as ``30`` (seconds), ``250ms``, ``5m`` or ``1.5h``."""
    match = _DURATION.fullmatch(str(given).strip())
    if match is None or isinstance(given, bool):
        raise UnreadableError(f"{given!r} is no length of time; write it as 250ms, 30s, 5m or 2h")
    nanos = round(float(match[1]) * _SECONDS[match[2] or "s"] * 1e9)
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


def _date(given: object) -> object:
    if isinstance(given, date) and not isinstance(given, datetime):
        return Date(year=given.year, month=given.month, day=given.day)
    return parse_date(given) if isinstance(given, str) else given


def _instant(given: object) -> Message:
    return instant_of(given) if isinstance(given, datetime) else parse_instant(str(given))


def _value(given: object) -> object:
    return given if isinstance(given, Mapping) else value_of(given)


def _filter(given: object) -> object:
    return parse_condition(given) if isinstance(given, str) else given


def _group(given: object) -> object:
    return {"filters": given} if isinstance(given, list) else given


def _panel(given: object) -> object:
    """A panel whose question is not put under ``query``."""
    if not isinstance(given, Mapping) or "dataset" not in given:
        return given
    own = {key: value for key, value in given.items() if key in _PANEL_KEYS}
    return {**own, "query": {key: value for key, value in given.items() if key not in _PANEL_KEYS}}


def _time(given: object) -> object:
    """A mapping with ``range`` in place of the contract's three kinds of range; text is the range alone."""
    if isinstance(given, Mapping) and "range" in given:
        rest = {key: value for key, value in given.items() if key != "range"}
        return {**rest, **parse_range(str(given["range"]))}
    return given if isinstance(given, Mapping) else parse_range(str(given))


def _pattern(
    pattern: re.Pattern[str], example: str, build: Callable[[re.Match[str]], object]
) -> Callable[[object], object]:
    def read(given: object) -> object:
        if not isinstance(given, str):
            return given
        match = pattern.fullmatch(given.strip())
        if match is None:
            raise UnreadableError(f"cannot read {given!r}; write it as {example}")
        return build(match)

    return read


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _order(match: re.Match[str]) -> object:
    descending = match["sign"] == "-" or match["word"] == "desc"
    key = {"member": match["member"], "direction": "desc" if descending else "asc"}
    return key | ({"nulls": match["nulls"]} if match["nulls"] else {})


def _top(match: re.Match[str]) -> object:
    return {
        "count": int(match[1]),
        "dimension": match[2],
        "by": match[3],
        "ascending": bool(match[4]),
        "other": bool(match[5]),
    }


_READERS: Mapping[str, Callable[[object], object]] = {
    "google.protobuf.Duration": parse_duration,
    "google.protobuf.Timestamp": _instant,
    "google.type.Date": _date,
    "querybroker.v1.Value": _value,
    "querybroker.v1.Filter": _filter,
    "querybroker.v1.FilterGroup": _group,
    "querybroker.v1.Panel": _panel,
    "querybroker.v1.TimeSelection": _time,
    "querybroker.v1.OrderKey": _pattern(_ORDER, "flights, -flights or `flights desc nulls first`", _order),
    "querybroker.v1.TopN": _pattern(_TOP, "`5 dest by flights` or `5 dest by flights with other`", _top),
    "querybroker.v1.CompareTo": _pattern(
        _COMPARE,
        "`1 year` or `1 year of flights`",
        lambda m: {"count": int(m[1]), "unit": m[2], "measures": _names(m[3])},
    ),
    "querybroker.v1.ShareOfTotal": _pattern(
        _SHARE, "`flights` or `flights within origin`", lambda m: {"measure": m[1], "within": _names(m[2])}
    ),
    "querybroker.v1.RollingWindow": _pattern(
        _ROLLING, "`flights over 7`", lambda m: {"measure": m[1], "buckets": int(m[2])}
    ),
}
