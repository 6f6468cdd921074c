"""Rollups as operators see them: domain to protobuf."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import FAR_FUTURE, FAR_PAST, Rollup, Span, instant
from broker.domain.timegrid import build
from broker.ports.rollups import PartitionStatus, RollupStatus
from broker.transport.encode_status import timestamp
from broker.transport.enums import GRAIN, STORAGE, TRACKING
from querybroker.v1 import admin_service_pb2 as pb
from querybroker.v1 import answer_pb2

MAX_MISMATCHES = 100
"""Intervals that VerifyRollup names."""
_DAY = 86_400
_SECONDS = {
    Grain.MINUTE: 60,
    Grain.FIFTEEN_MINUTES: 900,
    Grain.HOUR: 3_600,
    Grain.DAY: _DAY,
    Grain.WEEK: 7 * _DAY,
    Grain.MONTH: 30 * _DAY,
    Grain.QUARTER: 91 * _DAY,
    Grain.YEAR: 365 * _DAY,
}
"""Widths of buckets; those of calendar grains vary around it."""
_STATES = dict(pb.RollupState.items())


def encode_rollup(status: RollupStatus, answer_count: int) -> pb.Rollup:
    """A rollup with its partitions."""
    rollup = status.rollup
    segments = [p.segment for p in status.partitions if p.segment is not None]
    return pb.Rollup(
        name=f"datasets/{rollup.dataset}/rollups/{rollup.name}",
        state=_STATES[f"ROLLUP_STATE_{status.state.upper()}"],
        state_message=status.message,
        base_grain=Duration(seconds=_SECONDS[rollup.base]),
        dimensions=rollup.dimensions,
        measures=rollup.measures,
        partitions=[_partition(rollup, partition) for partition in status.partitions],
        row_count=sum(segment.row_count for segment in segments),
        byte_count=sum(segment.byte_count for segment in segments),
        hit_count=answer_count,
        definition_version=status.definition,
        verify_time=timestamp(status.verify_time),
        grains=[GRAIN.proto(grain) for grain in rollup.grains],
        time_dimension=rollup.time,
        time_zone=rollup.zone,
        partition_grain=GRAIN.proto(rollup.partition),
        storage=STORAGE.proto(rollup.storage),
        tracking=TRACKING.proto(rollup.tracking),
    )


def encode_span(span: Span) -> answer_pb2.TimeInterval:
    """An interval; an end of time is not set."""
    return answer_pb2.TimeInterval(
        start_time=timestamp(instant(span.lo)), end_time=timestamp(instant(span.hi))
    )


def _partition(rollup: Rollup, partition: PartitionStatus) -> pb.RollupPartition:
    segment = partition.segment
    if segment is None:
        return pb.RollupPartition(interval=encode_span(partition.span), state=pb.PARTITION_STATE_ABSENT)
    return pb.RollupPartition(
        interval=encode_span(partition.span),
        state=pb.PARTITION_STATE_SEALED if segment.sealed else pb.PARTITION_STATE_VALID,
        version=segment.version,
        dirty_bucket_count=_bucket_count(rollup, partition.span, partition.dirty),
        row_count=segment.row_count,
        byte_count=segment.byte_count,
        as_of=timestamp(segment.as_of),
    )


def _bucket_count(rollup: Rollup, partition: Span, spans: Iterable[Span]) -> int:
    """The buckets of the base grain that spans touch within a partition; 1 where that has no end to count to."""
    touched: set[int] = set()
    for span in spans:
        lo, hi = max(span.lo, partition.lo), min(span.hi, partition.hi)
        if lo >= hi:
            continue
        if lo == FAR_PAST or hi == FAR_FUTURE:
            return 1
        if not rollup.base.calendar:
            width = _SECONDS[rollup.base] * 1_000_000
            touched.update(range(lo // width, -(-hi // width)))
            continue
        first, last = instant(lo), instant(hi)
        assert first is not None
        assert last is not None
        grid = build(AbsoluteRange(first, last), rollup.base, rollup.zone)
        touched.update(int(start.timestamp()) for start in grid.starts)
    return len(touched)
