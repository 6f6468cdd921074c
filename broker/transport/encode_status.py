"""What an answer is worth: domain to protobuf. Built for every reply, so it does no more than it must."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from broker.domain.answer import AnswerPart, AnswerStatus, Cost, ErrorBound, Interval, LadderStep
from broker.domain.values import Column
from broker.transport.enums import (
    ANSWER_KIND,
    COLUMN_ROLE,
    COST_CLASS,
    DATA_TYPE,
    DEGRADATION,
    EXACTNESS,
    GUARANTEE,
    PART_SOURCE,
    RUNG,
    VERDICT,
)
from querybroker.v1 import answer_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOUND_METHODS = dict(answer_pb2.BoundMethod.items())


def timestamp(instant: datetime | None) -> Timestamp | None:
    """An aware instant; None stays unset."""
    if instant is None:
        return None
    since = instant - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def duration(seconds: float | None) -> Duration | None:
    """Non-negative seconds; None stays unset."""
    if seconds is None:
        return None
    nanos = max(0, round(seconds * 1e9))
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def encode_status(status: AnswerStatus, request_id: str) -> answer_pb2.AnswerStatus:
    """The status, with the request id of the call when it has none of its own."""
    return answer_pb2.AnswerStatus(
        kind=ANSWER_KIND.proto(status.kind),
        exactness=EXACTNESS.proto(status.exactness),
        degraded=status.degraded,
        degradation_level=status.degradation_level,
        reasons=[DEGRADATION.proto(reason) for reason in status.reasons],
        as_of=timestamp(status.as_of),
        data_watermark=timestamp(status.data_watermark),
        staleness=duration(status.staleness),
        guarantee=GUARANTEE.proto(status.guarantee),
        guarantee_bound=duration(status.guarantee_bound),
        parts=[encode_part(part) for part in status.parts],
        missing_intervals=encode_intervals(status.missing_intervals),
        sealed_intervals=encode_intervals(status.sealed_intervals),
        effective_range=encode_interval(status.effective_range),
        bounds=[encode_bound(bound) for bound in status.bounds],
        ladder=[encode_step(step) for step in status.ladder],
        limiting_factor=status.limiting_factor,
        queue_duration=duration(status.queue_duration),
        pool=status.pool,
        predicted_cost=encode_cost(status.predicted),
        actual_cost=encode_cost(status.actual),
        cost_class=COST_CLASS.proto(status.cost_class),
        answer_version=status.answer_version,
        refresh_expected_time=timestamp(status.refresh_expected),
        retry_after=duration(status.retry_after),
        job=status.job,
        request_id=status.request_id or request_id,
    )


def encode_interval(interval: Interval | None) -> answer_pb2.TimeInterval | None:
    """A half-open interval; None stays unset."""
    if interval is None:
        return None
    return answer_pb2.TimeInterval(start_time=timestamp(interval.start), end_time=timestamp(interval.end))


def encode_intervals(intervals: Iterable[Interval]) -> list[answer_pb2.TimeInterval]:
    """Half-open intervals, in order."""
    return [
        answer_pb2.TimeInterval(start_time=timestamp(i.start), end_time=timestamp(i.end)) for i in intervals
    ]


def encode_part(part: AnswerPart) -> answer_pb2.AnswerPart:
    """A piece of an answer."""
    return answer_pb2.AnswerPart(
        interval=encode_interval(part.interval),
        source=PART_SOURCE.proto(part.source),
        source_name=part.source_name,
        source_version=part.source_version,
        as_of=timestamp(part.as_of),
        row_count=part.row_count,
        share=part.share,
        replica_lag=duration(part.replica_lag),
    )


def encode_bound(bound: ErrorBound) -> answer_pb2.ErrorBound:
    """The error bound of one measure."""
    return answer_pb2.ErrorBound(
        measure=bound.measure,
        method=_BOUND_METHODS[f"BOUND_METHOD_{bound.method}"],
        relative_error=bound.relative_error,
        confidence=bound.confidence,
        lower_column=bound.lower,
        upper_column=bound.upper,
        suppressed_group_count=bound.suppressed,
    )


def encode_step(step: LadderStep) -> answer_pb2.LadderStep:
    """One rung that was considered."""
    return answer_pb2.LadderStep(
        rung=RUNG.proto(step.rung),
        verdict=VERDICT.proto(step.verdict),
        source_name=step.source_name,
        codes=step.codes,
        duration=duration(step.duration) if step.duration else None,
        detail=step.detail,
    )


def encode_cost(cost: Cost | None) -> answer_pb2.Cost | None:
    """What work costs; None stays unset."""
    if cost is None:
        return None
    return answer_pb2.Cost(
        duration_p50=duration(cost.duration_p50),
        duration_p90=duration(cost.duration_p90),
        row_count=cost.row_count,
        byte_count=cost.byte_count,
        seats=cost.seats,
    )


def encode_columns(columns: Iterable[Column]) -> list[answer_pb2.ColumnSchema]:
    """The columns of a result; those of SQL have no role."""
    return [
        answer_pb2.ColumnSchema(
            name=column.name,
            type=DATA_TYPE.proto(column.type),
            role=COLUMN_ROLE.proto(column.role),
            scale=column.scale,
            zone=column.zone,
            unit=column.unit,
        )
        for column in columns
    ]
