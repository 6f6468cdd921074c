"""The segments whose files are here and when they were last asked for: the part of a mirror that answers at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from broker.domain.plan import LocalFile
from broker.domain.rollup import Rollup, Segment, Span
from broker.ports.clock import Clock
from broker.rollups.mirror_files import Stamp

Key = tuple[int, datetime]
"""What names a segment: ids begin anew in a database that was made again or restored."""

_Place = tuple[str, str, Span]


def key_of(segment: Segment) -> Key:
    """The segment's key."""
    return segment.id, segment.as_of


class Ready:
    """A segment whose files are here; ``used`` is on the monotonic clock."""

    __slots__ = ("files", "rollup", "segment", "stamps", "used")

    def __init__(
        self,
        rollup: Rollup,
        segment: Segment,
        files: tuple[LocalFile, ...],
        stamps: tuple[Stamp, ...],
        used: float,
    ) -> None:
        self.rollup, self.segment, self.files, self.stamps, self.used = rollup, segment, files, stamps, used


class ReadySegments:
    """What may be handed out. What was within the last ``keep`` seconds is not released."""

    def __init__(self, keep: float, clock: Clock) -> None:
        self._keep = keep
        self._clock = clock
        self._ready: dict[int, Ready] = {}
        self._owners: dict[str, int] = {}
        self._latest: dict[_Place, int] = {}
        self._told = 0.0
        self.flying: set[str] = set()
        """Files that are being fetched or verified; they are not released either."""

    def __contains__(self, segment: Segment) -> bool:
        ready = self._ready.get(segment.id)
        return ready is not None and ready.segment.as_of == segment.as_of

    def files(self, segment: Segment) -> tuple[LocalFile, ...] | None:
        """The files of a segment, which are in use from now on; None if they are not here."""
        ready = self._ready.get(segment.id)
        if ready is None or ready.segment.as_of != segment.as_of:
            return None
        ready.used = self._clock.monotonic()
        return ready.files

    def add(
        self,
        rollup: Rollup,
        segment: Segment,
        files: tuple[LocalFile, ...],
        stamps: tuple[Stamp, ...],
    ) -> None:
        """The segment is here."""
        self._ready[segment.id] = Ready(rollup, segment, files, stamps, self._clock.monotonic())
        self._latest[_place(rollup, segment)] = segment.version
        self._owners.update((file.path, segment.id) for file in files)

    def drop(self, path: str) -> Ready | None:
        """Takes the segment out of use that the file belongs to, and returns it if there is one."""
        ready = self._ready.pop(self._owners.get(path, -1), None)
        for file in ready.files if ready is not None else ():
            self._owners.pop(file.path, None)
        return ready

    def succeeded_by(self, rollup: Rollup, segment: Segment) -> bool:
        """Whether an older version of the segment's partition has been here."""
        return 0 < self._latest.get(_place(rollup, segment), 0) < segment.version

    def used(self) -> dict[str, float]:
        """Wall-clock times at which files were handed out, of those that are kept for it, or were not told yet."""
        now = self._clock.monotonic()
        offset, since = self._clock.now().timestamp() - now, min(self._told, now - self._keep)
        self._told = now
        lately = [ready for ready in self._ready.values() if ready.used > since]
        return {file.path: ready.used + offset for ready in lately for file in ready.files}

    def release(self, paths: Iterable[str]) -> list[str]:
        """Stops handing these out, and returns them without those that were handed out lately."""
        since = self._clock.monotonic() - self._keep
        released: list[str] = []
        for path in paths:
            ready = self._ready.get(self._owners.get(path, -1))
            if path not in self.flying and (ready is None or ready.used <= since):
                released.append(path)
        for path in released:
            self.drop(path)
        return released

    def settle(self, files: Mapping[str, Stamp]) -> None:
        """Stops handing out what is not there any more, or is not what it was."""
        for ready in list(self._ready.values()):
            for file, stamp in zip(ready.files, ready.stamps, strict=True):
                if files.get(file.path) != stamp:
                    self.drop(file.path)


def _place(rollup: Rollup, segment: Segment) -> _Place:
    return rollup.dataset, rollup.name, segment.span
