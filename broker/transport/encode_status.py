"""What an answer is worth: domain to protobuf. Built for every reply, so it does no more than it must.

What every answer has is filled in at its place: a message that is handed over to another one is copied there, which
takes longer than all else.
"""

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
    message = Timestamp()
    _at(message, instant)
    return message


def _at(message: Timestamp, instant: datetime) -> None:
    since = instant - _EPOCH
    message.seconds, message.nanos = since.days * 86_400 + since.seconds, since.microseconds * 1000


def duration(seconds: float | None) -> Duration | None:
    """Non-negative seconds; None stays unset."""
    if seconds is None:
        return None
    message = Duration()
    _lasting(message, seconds)
    return message


def _lasting(message: Duration, seconds: float) -> None:
    nanos = round(seconds * 1e9)
    message.seconds, message.nanos = divmod(max(nanos, 0), 1_000_000_000)


def encode_status(status: AnswerStatus, request_id: str) -> answer_pb2.AnswerStatus:
    """The status, with the request id of the call when it has none of its own."""
    message = answer_pb2.AnswerStatus(
        kind=ANSWER_KIND.proto(status.kind),
        exactness=EXACTNESS.proto(status.exactness),
        guarantee=GUARANTEE.proto(status.guarantee),
        pool=status.pool,
        cost_class=COST_CLASS.proto(status.cost_class),
        answer_version=status.answer_version,
        request_id=status.request_id or request_id,
    )
    _at(message.as_of, status.as_of)
    _lasting(message.staleness, status.staleness)
    _lasting(message.queue_duration, status.queue_duration)
    for part in status.parts:
        _part(message.parts.add(), part)
    for step in status.ladder:
        _step(message.ladder.add(), step)
    if status.predicted is not None:
        _cost(message.predicted_cost, status.predicted)
    if status.actual is not None:
        _cost(message.actual_cost, status.actual)
    _degradation(message, status)
    _limits(message, status)
    return message


# Few answers have what follows, and setting a field to its default takes as long as setting it to anything else.
def _degradation(message: answer_pb2.AnswerStatus, status: AnswerStatus) -> None:
    """Why it is no better, and when it will be."""
    if status.degraded:
        message.degraded = True
    if status.degradation_level:
        message.degradation_level = status.degradation_level
    if status.reasons:
        message.reasons.extend(map(DEGRADATION.proto, status.reasons))
    if status.limiting_factor:
        message.limiting_factor = status.limiting_factor
    if status.refresh_expected is not None:
        _at(message.refresh_expected_time, status.refresh_expected)
    if status.retry_after is not None:
        _lasting(message.retry_after, status.retry_after)
    if status.job:
        message.job = status.job


def _limits(message: answer_pb2.AnswerStatus, status: AnswerStatus) -> None:
    """What it holds only up to, or without, or within."""
    if status.data_watermark is not None:
        _at(message.data_watermark, status.data_watermark)
    if status.guarantee_bound is not None:
        _lasting(message.guarantee_bound, status.guarantee_bound)
    for interval in status.missing_intervals:
        _between(message.missing_intervals.add(), interval)
    for interval in status.sealed_intervals:
        _between(message.sealed_intervals.add(), interval)
    if status.effective_range is not None:
        _between(message.effective_range, status.effective_range)
    if status.bounds:
        message.bounds.extend(map(encode_bound, status.bounds))


def encode_interval(interval: Interval | None) -> answer_pb2.TimeInterval | None:
    """A half-open interval; None stays unset."""
    if interval is None:
        return None
    message = answer_pb2.TimeInterval()
    _between(message, interval)
    return message


def _between(message: answer_pb2.TimeInterval, interval: Interval) -> None:
    message.SetInParent()  # also without ends
    if interval.start is not None:
        _at(message.start_time, interval.start)
    if interval.end is not None:
        _at(message.end_time, interval.end)


def encode_part(part: AnswerPart) -> answer_pb2.AnswerPart:
    """A piece of an answer."""
    message = answer_pb2.AnswerPart()
    _part(message, part)
    return message


def _part(message: answer_pb2.AnswerPart, part: AnswerPart) -> None:
    message.source = PART_SOURCE.proto(part.source)
    message.source_name, message.source_version = part.source_name, part.source_version
    message.row_count, message.share = part.row_count, part.share
    _at(message.as_of, part.as_of)
    if part.interval is not None:
        _between(message.interval, part.interval)
    if part.replica_lag is not None:
        _lasting(message.replica_lag, part.replica_lag)


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
    message = answer_pb2.LadderStep()
    _step(message, step)
    return message


def _step(message: answer_pb2.LadderStep, step: LadderStep) -> None:
    message.rung, message.verdict = RUNG.proto(step.rung), VERDICT.proto(step.verdict)
    message.source_name, message.detail = step.source_name, step.detail
    if step.codes:
        message.codes.extend(step.codes)
    if step.duration:
        _lasting(message.duration, step.duration)


def encode_cost(cost: Cost | None) -> answer_pb2.Cost | None:
    """What work costs; None stays unset."""
    if cost is None:
        return None
    message = answer_pb2.Cost()
    _cost(message, cost)
    return message


def _cost(message: answer_pb2.Cost, cost: Cost) -> None:
    _lasting(message.duration_p50, cost.duration_p50)
    _lasting(message.duration_p90, cost.duration_p90)
    message.row_count, message.byte_count, message.seats = cost.row_count, cost.byte_count, cost.seats


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
