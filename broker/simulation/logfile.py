"""A decision log on disk: the file, and before it the one that was full, when both are of one start of a broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from broker.policy.admission.events import Configuration, Entry, Lost
from broker.policy.admission.record import LogError, read

OLDER = ".1"
"""Ends the name of the file that was full."""


@dataclass(frozen=True, slots=True)
class Line:
    """An event and where it stands, as ``decisions.jsonl:17``."""

    place: str
    entry: Entry


@contextmanager
def opened(path: Path) -> Iterator[tuple[Configuration, Iterator[Line]]]:
    """The configuration and the events of a log, in order, while the context lasts.

    Raises:
        LogError: the file is no decision log.
        OSError: it cannot be read.
    """
    with _text(path) as newer:
        configuration, entries = read(newer)
        older = path.with_name(path.name + OLDER)
        if not _begins(older, configuration):
            yield configuration, _lines(path, entries)
            return
        with _text(older) as earlier:
            yield configuration, _joined(_lines(older, read(earlier)[1]), _lines(path, entries))


def _begins(older: Path, configuration: Configuration) -> bool:
    """Whether there is a file that was full, and of the same core."""
    if not older.exists():
        return False
    try:
        with _text(older) as lines:
            return read(lines)[0] == configuration
    except LogError:
        return False


def _text(path: Path) -> IO[str]:
    return path.open(encoding="utf-8", errors="replace")


def _lines(path: Path, entries: Iterator[Entry]) -> Iterator[Line]:
    for number, entry in enumerate(entries, start=2):
        yield Line(f"{path.name}:{number}", entry)


def _joined(older: Iterator[Line], newer: Iterator[Line]) -> Iterator[Line]:
    """Both files. The newer says how many events came before it; if that is what the older one has, none is lost."""
    count = 0
    for index, line in enumerate(older):
        event = line.entry.event
        count += event.count if index == 0 and isinstance(event, Lost) else 1
        yield line
    first = next(newer, None)
    if first is not None and first.entry.event != Lost(count):
        yield first
    yield from newer
