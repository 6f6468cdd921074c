"""Whether an answer is right, or says in what it is not."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status as RpcStatus

from querybroker.v1 import answer_pb2, error_reason_pb2, query_pb2
from tests.bench.live import stamp
from tests.bench.parts.fault_terms import SLACK, STALE, TERMS, Status
from tests.bench.parts.fault_world import START, Place, Row, Truth, Writer, common, places

A = answer_pb2
GRAINS = {
    "": query_pb2.TIME_GRAIN_UNSPECIFIED,
    "day": query_pb2.TIME_GRAIN_DAY,
    "month": query_pb2.TIME_GRAIN_MONTH,
}
MEASURES = ("rows", "total", "last")
_DAY = 86_400_000_000
_START = int(START.timestamp()) * 1_000_000


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about days from one to before another, under terms by name."""

    dataset: str
    first: int
    end: int
    grain: str
    by_kind: bool
    terms: str

    def query(self) -> query_pb2.Query:
        """It as a message."""
        bounds = query_pb2.AbsoluteTimeRange(
            start_time=stamp(START + timedelta(days=self.first)),
            end_time=stamp(START + timedelta(days=self.end)),
        )
        return query_pb2.Query(
            dataset=self.dataset,
            measures=MEASURES,
            dimensions=["kind"] if self.by_kind else [],
            time=query_pb2.TimeSelection(absolute=bounds, grain=GRAINS[self.grain]),
        )


@dataclass(frozen=True, slots=True)
class Got:
    """An answer, between two instants of the wall clock."""

    ask: Ask
    status: Status
    rows: Mapping[Place, Row]
    sent: float
    came: float

    @property
    def kind(self) -> str:
        """Its kind in short."""
        return A.AnswerKind.Name(self.status.kind).removeprefix("ANSWER_KIND_").lower()

    @property
    def as_of(self) -> float:
        """The instant that it claims to be of."""
        return float(self.status.as_of.seconds + self.status.as_of.nanos / 1e9)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an answer by class (``wrong``, ``undeclared``, ``incomplete_undeclared``; empty: nothing),
    and the numbers up to one of which it holds everything, where there must be such a number."""

    fault: str = ""
    why: str = ""
    upto: tuple[int, int] | None = None


def rows_of(
    ask: Ask, schema: Sequence[answer_pb2.ColumnSchema], columns: answer_pb2.ColumnBatch
) -> list[Row]:
    """The rows of a batch. Raises ValueError when one is no row of the question."""
    found = {
        each.name if each.role != A.COLUMN_ROLE_TIME_BUCKET else "": _values(column)
        for each, column in zip(schema, columns.columns, strict=True)
    }
    expected = {(p.first, p.kind): p for p in places(ask.first, ask.end, ask.grain, by_kind=ask.by_kind)}
    rows = []
    for i in range(len(found["rows"])):
        day = max(ask.first, (int(found[""][i]) - _START) // _DAY) if ask.grain else ask.first
        place = expected.get((day, str(found["kind"][i]) if ask.by_kind else ""))
        if place is None:
            raise ValueError(f"no row of the question: day {day}")
        rows.append(Row(place, *(int(found[name][i]) for name in MEASURES)))
    return rows


def _values(column: answer_pb2.Column) -> Sequence[int | str]:
    if column.WhichOneof("values") == "string_values":
        strings = column.string_values
        return [strings.dictionary[i] for i in strings.indices]
    if column.WhichOneof("values") == "timestamp_values":
        return column.timestamp_values.unix_micros
    return column.int64_values.values


def judged(got: Got, truth: Truth, writer: Writer) -> Verdict:
    """What is to be said of an answer."""
    if why := _undeclared(got):
        return Verdict("undeclared", why)
    missing = _missing(got.status)
    if missing and not TERMS[got.ask.terms].partial:
        return Verdict("wrong", "incomplete in spite of FORBID")
    if bool(missing) is not (got.status.exactness == A.EXACTNESS_PARTIAL):
        return Verdict("incomplete_undeclared", "PARTIAL and missing intervals disagree")
    return _held(got, missing, truth, writer)


def _held(got: Got, missing: Sequence[tuple[float, float]], truth: Truth, writer: Writer) -> Verdict:
    """What is to be said of what an answer holds, apart from intervals that it lacks."""
    ask = got.ask
    least, most = writer.least(got.as_of - SLACK), writer.most(got.came)
    intervals = []
    for place in places(ask.first, ask.end, ask.grain, by_kind=ask.by_kind):
        row = got.rows.get(place)
        if any(low < place.end and place.first < high for low, high in missing):
            continue
        if row is None:
            return Verdict("incomplete_undeclared", f"nothing of {place}")
        if got.status.kind == A.ANSWER_KIND_ROLLUP_STALE:  # pieces of different instants, none before as_of
            numbers = truth.of(place)[0]
            if not bisect_right(numbers, least) <= row.rows <= bisect_right(numbers, most):
                return Verdict("wrong", f"{row} is not between {least} and {most}")
            continue
        upto = truth.upto(row)
        if upto is None:
            return Verdict("wrong", f"{row} never was")
        intervals.append(upto)
    if not intervals:
        return Verdict()
    found = common(intervals)
    if found is None:
        return Verdict("wrong", "rows of different instants")
    if found[1] < least or found[0] > most:
        return Verdict("wrong", f"holds {found}, as of then were {least}, now {most}")
    return Verdict(upto=found)


def _undeclared(got: Got) -> str:
    """What an answer is that it does not say, or may not be."""
    status, age = got.status, got.sent - got.as_of
    told = status.staleness.ToTimedelta().total_seconds()
    if age > told + SLACK:
        return f"{age:.3f} s old, not {told:.3f} s"
    if status.kind in STALE:
        if not status.reasons or not (status.degraded or status.degradation_level == 1):
            return "stale and not declared"
    elif status.degraded and not status.missing_intervals:
        return "degraded, and of a kind that is not"
    bounded = status.guarantee == A.FRESHNESS_GUARANTEE_BOUNDED_STALENESS
    if bounded and age > status.guarantee_bound.ToTimedelta().total_seconds() + SLACK:
        return f"{age:.3f} s old, beyond its guarantee"
    return TERMS[got.ask.terms].breach(status, age)


def _missing(status: Status) -> list[tuple[float, float]]:
    """The intervals that it lacks, in days after the start."""

    def days(message: Message, name: str, otherwise: float) -> float:
        if not message.HasField(name):
            return otherwise
        instant: datetime = getattr(message, name).ToDatetime(UTC)
        return (instant - START).total_seconds() / 86_400

    return [
        (days(each, "start_time", float("-inf")), days(each, "end_time", float("inf")))
        for each in status.missing_intervals
    ]


def reason_of(error: RpcStatus) -> str:
    """The reason of an error, or what is wrong with it, in brackets."""
    infos = []
    for packed in error.details:
        info = error_details_pb2.ErrorInfo()
        if packed.Unpack(info):
            infos.append(info)
    if len(infos) != 1 or infos[0].domain != "querybroker.v1":
        return f"[{len(infos)} reasons] {error.message}"
    reason = infos[0].reason
    known = f"ERROR_REASON_{reason}" in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118 - an enum, not a mapping
    return reason if known and reason != "INTERNAL" else f"[{reason}] {error.message}"
