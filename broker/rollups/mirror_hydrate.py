"""Fetching ahead: what is current and has room is in the mirror before it is asked for, the newest first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.domain.rollup import Rollup, Segment, Storage
from broker.ports.rollups import RollupStatus


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a hydration is, in segments and bytes; ``skipped`` ones found no room, or failed."""

    done: int
    total: int
    done_bytes: int
    total_bytes: int
    skipped: int = 0


class Prefetching(Protocol):
    """What a hydration needs of a mirror."""

    async def replace(self, found: Iterable[tuple[Rollup, Sequence[Segment]]]) -> None:
        """Of these rollups, only these segments are current."""
        ...

    async def prefetch(self, rollup: Rollup, segment: Segment) -> bool:
        """Whether the segment is here, after fetching it if there is room."""
        ...


async def hydrate(
    mirror: Prefetching,
    statuses: Iterable[RollupStatus],
    parallel: int,
    progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Fetches every current segment that is missing and has room, newest first; removes what was replaced before."""
    wanted = [
        (status.rollup, [part.segment for part in status.partitions if part.segment is not None])
        for status in statuses
        if status.rollup.storage is Storage.SEGMENTS
    ]
    await mirror.replace(wanted)
    found = [(rollup, segment) for rollup, segments in wanted for segment in segments]
    found.sort(key=lambda pair: pair[1].span, reverse=True)
    state = Progress(0, len(found), 0, sum(segment.byte_count for _, segment in found))
    queue = iter(found)

    async def work() -> None:
        nonlocal state
        for rollup, segment in queue:
            here = await mirror.prefetch(rollup, segment)
            state = Progress(
                state.done + 1,
                state.total,
                state.done_bytes + segment.byte_count,
                state.total_bytes,
                state.skipped + (not here),
            )
            if progress is not None:
                progress(state)

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(work())
    return state
