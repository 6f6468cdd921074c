"""The decision log: every event that the admission core was told and every decision it made, as lines of JSON.

The first line names the format and holds the configuration of the core; every other line is one event with its instant
and its decisions. One log belongs to one core, because its clock and its ids mean nothing to another. Since the core is
a pure state machine, the log is enough to play an incident again (`broker simulate --replay`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from broker.policy.admission import events
from broker.policy.admission.codec import reader, writer
from broker.policy.admission.events import Configuration, Entry
from broker.policy.admission.values import Admitted, Decision, Killed, Queued, Refused

FORMAT, VERSION = "querybroker.decisions", 1

_EVENTS = MappingProxyType(
    {
        "offer": events.Offered,
        "finish": events.Finished,
        "cancel": events.Cancelled,
        "tick": events.Ticked,
        "drain": events.Drained,
        "signal": events.Signalled,
        "pressure": events.Pressed,
        "lease": events.Leased,
        "charge": events.Charged,
        "refusal": events.Asked,
        "lost": events.Lost,
    }
)
_DECISIONS = MappingProxyType({"admitted": Admitted, "queued": Queued, "refused": Refused, "killed": Killed})
_WRITE_EVENT = MappingProxyType({kind: (name, writer(kind)) for name, kind in _EVENTS.items()})
_WRITE_DECISION = MappingProxyType({kind: (name, writer(kind)) for name, kind in _DECISIONS.items()})
_READ = MappingProxyType({name: reader(kind) for name, kind in {**_EVENTS, **_DECISIONS}.items()})
_READ_CONFIGURATION, _WRITE_CONFIGURATION = reader(Configuration), writer(Configuration)
_DUMP = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class LogError(ValueError):
    """A file is no decision log, or none that this version reads; the message says what to do."""


def encode_header(configuration: Configuration) -> str:
    """The first line of a log. Addresses of databases, which may hold passwords and decide nothing, are left out."""
    pools = {name: replace(limits, replica_dsn="") for name, limits in configuration.pools.items()}
    configuration = replace(configuration, pools=pools)
    head = {"log": FORMAT, "version": VERSION, "configuration": _WRITE_CONFIGURATION(configuration)}
    return _DUMP(head) + "\n"


def encode(entry: Entry) -> str:
    """The line of an event."""
    name, write = _WRITE_EVENT[type(entry.event)]
    line = {"at": entry.at, "event": name, **write(entry.event)}
    if entry.decisions:
        line["decisions"] = [_plain(decision) for decision in entry.decisions]
    return _DUMP(line) + "\n"


def _plain(decision: Decision) -> dict[str, Any]:
    name, write = _WRITE_DECISION[type(decision)]
    return {"decision": name, **write(decision)}


def decode_header(line: str) -> Configuration:
    """The configuration in the first line of a log.

    Raises:
        LogError: the line is not the head of a decision log, or of another version.
    """
    try:
        head = json.loads(line)
        found = head["log"], head["version"]
    except (ValueError, TypeError, KeyError):
        raise LogError(
            "This is not a decision log. Name a file that a broker wrote with server.decision_log set."
        ) from None
    if found != (FORMAT, VERSION):
        raise LogError(
            f"This log has the format {found[0]} {found[1]}, and this version reads {FORMAT} {VERSION}. "
            "Read it with the version of the broker that wrote it."
        )
    try:
        configuration: Configuration = _READ_CONFIGURATION(head["configuration"])
    except (ValueError, TypeError, KeyError) as error:
        raise LogError(
            f"The configuration in the first line of the decision log is damaged: {error}."
        ) from error
    return configuration


def decode(line: str) -> Entry:
    """The event of a line.

    Raises:
        ValueError, TypeError, KeyError: the line is no event; :func:`read` makes them a :class:`LogError`.
    """
    data = json.loads(line)
    at, name = float(data.pop("at")), data.pop("event")
    made = [(item.pop("decision"), item) for item in data.pop("decisions", ())]
    return Entry(at, _READ[name](data), tuple([_READ[kind](item) for kind, item in made]))


def read(lines: Iterable[str]) -> tuple[Configuration, Iterator[Entry]]:
    """A log: its configuration, and its events as they are asked for.

    A last line that is cut off, as by a process that was killed, is left out.

    Raises:
        LogError: at once for a foreign file, later for a line in the middle that is no event.
    """
    rest = iter(lines)
    configuration = decode_header(next(rest, ""))
    return configuration, _entries(rest)


def _entries(lines: Iterator[str]) -> Iterator[Entry]:
    damaged: tuple[int, Exception] | None = None
    for number, line in enumerate(lines, start=2):
        if damaged is not None:
            raise LogError(
                f"Line {damaged[0]} of the decision log is no event: {damaged[1]}. Cut the file there; a broker "
                "writes one log per start."
            ) from damaged[1]
        try:
            entry = decode(line)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            damaged = number, error
        else:
            yield entry
