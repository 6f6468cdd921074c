"""What an answer is worth, in one line; and what was found out about a question, in a few."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration

from broker.cli.render.cells import duration_text, size_text
from broker.cli.render.counts import count_text
from querybroker.v1 import answer_pb2
from querybroker.v1.answer_pb2 import AnswerStatus, Cost, ErrorBound, LadderStep, TimeInterval

BULK_ROWS = 10_000
"""Answers from this size on tell how many rows came in a second."""


def status_line(status: AnswerStatus, rows: int | None = None, seconds: float | None = None) -> str:
    """Kind, rows, age, waiting and work of an answer; ``seconds`` is the time until it was here."""
    return " · ".join(_parts(status, rows, seconds))


def _parts(status: AnswerStatus, rows: int | None, seconds: float | None) -> Iterator[str]:
    kind = short(answer_pb2.AnswerKind.DESCRIPTOR, status.kind)
    yield f"{kind}, degraded" if status.degraded else kind
    if reasons := [short(answer_pb2.DegradationReason.DESCRIPTOR, reason) for reason in status.reasons]:
        yield ", ".join(reasons)
    if rows is not None:
        yield count_text(rows, "row")
    if status.HasField("as_of"):
        yield f"as of {clock_text(status.as_of.ToDatetime(tzinfo=UTC))}"
    if lags := [seconds_of(part.replica_lag) for part in status.parts if part.HasField("replica_lag")]:
        yield f"from a replica, {duration_text(max(lags))} behind"
    for bound in status.bounds:
        yield bound_text(bound)
    yield f"queued {duration_text(seconds_of(status.queue_duration))}"
    if status.HasField("actual_cost"):
        yield f"worked {duration_text(seconds_of(status.actual_cost.duration_p50))}"
    if seconds is not None:
        rate = f", {rows / seconds:,.0f} rows/s" if rows is not None and rows >= BULK_ROWS else ""
        yield f"here in {duration_text(seconds)}{rate}"
    if status.pool:
        yield f"pool {status.pool}"


def bound_text(bound: ErrorBound) -> str:
    """How far a value may be off: relative for counts, in ranks for percentiles."""
    what = "rank " if bound.method == answer_pb2.BOUND_METHOD_KLL else ""
    return f"{bound.measure} {what}± {bound.relative_error:.1%} at {bound.confidence:.0%}"


def cost_text(cost: Cost) -> str:
    """A predicted or measured cost."""
    parts = [f"{duration_text(seconds_of(cost.duration_p50))} (median)"]
    if cost.HasField("duration_p90"):
        parts.append(f"{duration_text(seconds_of(cost.duration_p90))} (90 %)")
    if cost.row_count:
        parts.append(f"{cost.row_count:,} rows")
    if cost.byte_count:
        parts.append(size_text(cost.byte_count))
    return ", ".join(parts)


def interval_text(interval: TimeInterval) -> str:
    """A half-open interval."""
    start = clock_text(interval.start_time.ToDatetime(UTC)) if interval.HasField("start_time") else "…"
    end = clock_text(interval.end_time.ToDatetime(UTC)) if interval.HasField("end_time") else "…"
    return f"{start} to {end}, the end excluded"


def ladder_text(step: LadderStep) -> str:
    """A source that was considered, and what came of it."""
    rung = short(answer_pb2.LadderRung.DESCRIPTOR, step.rung).replace("_", " ")
    verdict = short(answer_pb2.LadderVerdict.DESCRIPTOR, step.verdict).replace("_", " ")
    why = ": ".join(filter(None, (", ".join(step.codes), step.detail)))
    return (
        f"{rung}{f' {step.source_name}' if step.source_name else ''}: {verdict}{f' ({why})' if why else ''}"
    )


def clock_text(instant: datetime) -> str:
    """An instant to the second, in UTC."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def seconds_of(duration: Duration) -> float:
    """Seconds of a protobuf duration."""
    return duration.seconds + duration.nanos / 1e9


def short(enum: EnumDescriptor, number: int) -> str:
    """The name of an enum value in lower case, without the name of the enum."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    value = enum.values_by_number.get(number)
    return value.name.removeprefix(prefix).lower() if value is not None else str(number)
