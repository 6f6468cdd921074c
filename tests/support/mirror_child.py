"""Hydrates a mirror until something happens: ``python -m tests.support.mirror_child DIRECTORY WHERE``.

WHERE is ``fetching`` or ``writing``: it says so on its output, and waits there to be killed, while it is at the third
segment.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

from broker.domain.rollup import Segment, SegmentFile
from broker.rollups.mirror import Mirror
from broker.rollups.mirror_disk import MirrorOptions
from broker.telemetry.instruments import Telemetry
from tests.support.segments import FakeSegments, HandClock, status_of

THIRD = 3


def segments_of(store: FakeSegments) -> list[Segment]:
    """Five segments, the same ones in every process."""
    return [store.segment(number, day=-number, files=1, size=50_000) for number in range(1, 6)]


class _Waits(FakeSegments):
    async def fetch(self, segment: Segment, file: SegmentFile) -> bytes:
        if segment.id == THIRD:
            _here()
            await asyncio.Event().wait()
        return await super().fetch(segment, file)


class _Renames:
    """Stands in for the last step of writing a file: the third one waits."""

    def __init__(self) -> None:
        self.count = 0

    def rename(self, source: Path, target: Path) -> Path:
        self.count += 1
        if self.count == THIRD:
            _here()
            threading.Event().wait()
        return source.replace(target)


def _here() -> None:
    sys.stdout.write("here\n")
    sys.stdout.flush()


async def main(directory: str, where: str) -> None:
    """Hydrates, one segment at a time."""
    store = _Waits() if where == "fetching" else FakeSegments()
    if where == "writing":
        renames = _Renames()
        setattr(Path, "rename", lambda source, target: renames.rename(source, Path(target)))  # noqa: B010 - the wait point; an assignment would need types that say more
    options = MirrorOptions(Path(directory), scope="db", parallel=1)
    mirror = Mirror(options, store, HandClock(), Telemetry.off())
    await mirror.open()
    await mirror.hydrate([status_of(*segments_of(store))])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
