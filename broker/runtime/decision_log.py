"""Writes the decision log beside the event loop: the loop hands over values, a thread makes them lines and writes.

What the loop does costs a microsecond and never waits. The thread works in small portions with pauses between them, so
that it never holds the interpreter for long. When it cannot keep up, or the disk is full, events are left out, and the
log says how many. A file that is full is kept beside the new one as ``<name>.1``; the new one begins with the same
configuration and the number of events that came before it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import IO

from broker.policy.admission.events import Configuration, Entry, Lost
from broker.policy.admission.record import encode, encode_header
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry

MOST_WAITING = 20_000
"""Events that may wait for the thread: some megabytes."""
PORTION = 64
"""Events that are written at once: about a millisecond of work."""
PAUSE = 0.001
IDLE = 0.1
"""Seconds between two looks when there was nothing to write; nobody wakes the thread, for that would cost the loop."""
_LOG = logging.getLogger(__name__)


class DecisionLog:
    """One file for one core, which tells :meth:`told` of its events. ``size`` is the largest file in bytes."""

    def __init__(
        self, path: Path, configuration: Configuration, clock: Clock, telemetry: Telemetry, size: int
    ) -> None:
        self._path = path
        self._configuration = replace(
            configuration, monotonic=clock.monotonic(), unix=clock.now().timestamp()
        )
        self._telemetry = telemetry
        self._size = size
        self._waiting: deque[Entry] = deque()
        self._lost = 0
        self._stop = threading.Event()
        self._file: IO[str] | None = None
        self._written = 0
        self._events = 0
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="decision log", daemon=True)

    def start(self) -> None:
        """Opens the file, keeping the one of an earlier start beside it, and begins to write.

        Raises:
            OSError: The file cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        self._thread.start()

    def told(self, entry: Entry) -> None:
        """Takes an event of the core."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(entry)
        else:
            self._lost += 1

    def close(self) -> None:
        """Writes what waits, and ends. It blocks for that, so an event loop calls it in a thread."""
        self._stop.set()
        self._thread.join()
        if self._file is not None:
            self._file.close()

    def _run(self) -> None:
        while True:
            stopping = self._stop.is_set()
            wrote = self._portion()
            if not wrote and stopping:
                return
            if not stopping:
                self._stop.wait(PAUSE if wrote else IDLE)

    def _portion(self) -> bool:
        entries = [self._waiting.popleft() for _ in range(min(PORTION, len(self._waiting)))]
        if not entries:
            return False
        if self._lost:
            lost, self._lost = self._lost, 0
            self._telemetry.decisions_lost(lost)
            entries.append(
                Entry(entries[-1].at, Lost(lost))
            )  # those that came when as many as may were waiting
        try:
            self._write("".join(map(encode, entries)))
        except OSError as error:
            self._lost += len(entries)
            if not self._failing:
                _LOG.error("the decision log cannot be written: %s", error.strerror)
            self._failing = True
        else:
            self._events += len(entries)
            self._failing = False
        return True

    def _write(self, text: str) -> None:
        if self._file is None or self._written > self._size:
            self._open()
        assert self._file is not None
        self._file.write(text)
        self._file.flush()
        self._written += len(text)

    def _open(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._path.exists():
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._file = self._path.open("w", encoding="utf-8")
        head = encode_header(self._configuration)
        if self._events:
            head += encode(Entry(self._configuration.monotonic, Lost(self._events)))
        self._file.write(head)
        self._written = len(head)
