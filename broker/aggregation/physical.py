"""Values as frames and small results hold them: instants in microseconds, dates in days since 1970."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from struct import unpack

from broker.domain.timegrid import TimeGrid
from broker.domain.values import DataType, Scalar

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def physical(value: Scalar) -> Scalar:
    """An instant as microseconds, a date as days, anything else as it is."""
    match value:
        case datetime():
            return (value - EPOCH) // timedelta(microseconds=1)
        case date():
            return (value - EPOCH.date()).days
        case _:
            return value


def beginning(grid: TimeGrid, position: int, kind: DataType) -> int:
    """First instant of a bucket in microseconds, or its date in days."""
    unit = timedelta(days=1) if kind is DataType.DATE else timedelta(microseconds=1)
    return (grid.starts[position] - EPOCH) // unit


def beginnings(grid: TimeGrid, positions: Sequence[int], kind: DataType) -> list[int]:
    """The same for several buckets; in one go where it pays to have all starts of the grid in microseconds."""
    if kind is DataType.DATE or len(grid.starts) > 4 * len(positions):
        return [beginning(grid, position, kind) for position in positions]
    starts = unpack(f"<{len(grid.starts)}q", grid.packed)
    return list(map(starts.__getitem__, positions))
