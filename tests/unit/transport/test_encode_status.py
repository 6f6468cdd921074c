"""What an answer is worth says the same to the caller: every value, what is not known, and what is zero."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.answer import (
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    Exactness,
    Interval,
    LadderStep,
    PartSource,
    Rung,
    Verdict,
)
from broker.transport.encode_status import (
    encode_cost,
    encode_interval,
    encode_part,
    encode_status,
    encode_step,
)
from querybroker.v1 import answer_pb2

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECONDS = st.sampled_from((-1, 0)) | st.integers(-(10**16), 10**17)
INSTANTS = MICROSECONDS.map(lambda at: EPOCH + timedelta(microseconds=at))
SECONDS = st.sampled_from((-1.0, 0.0, 0.9999999999, 1.0)) | st.floats(0.0, 1e6)
INTERVALS = st.builds(Interval, st.none() | INSTANTS, st.none() | INSTANTS)
PARTS = st.builds(
    AnswerPart,
    st.sampled_from(PartSource),
    st.sampled_from(("", "by_hour")),
    INSTANTS,
    st.none() | INTERVALS,
    replica_lag=st.none() | SECONDS,
)
STEPS = st.builds(
    LadderStep,
    st.sampled_from(Rung),
    st.sampled_from(Verdict),
    codes=st.sampled_from(((), ("A", "B"))),
    duration=SECONDS,
)
COSTS = st.builds(Cost, SECONDS, SECONDS, st.integers(0, 2**40))
STATUSES = st.builds(
    AnswerStatus,
    st.sampled_from(AnswerKind),
    st.sampled_from(Exactness),
    INSTANTS,
    SECONDS,
    parts=st.lists(PARTS, max_size=2).map(tuple),
    ladder=st.lists(STEPS, max_size=2).map(tuple),
    queue_duration=SECONDS,
    predicted=st.none() | COSTS,
    actual=st.none() | COSTS,
)


def instant(at: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message


def lasting(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(max(0, round(seconds * 1e9)))
    return message


@given(STATUSES)
def test_a_status_has_the_pieces_that_are_encoded_by_themselves(status: AnswerStatus) -> None:
    message = answer_pb2.AnswerStatus.FromString(encode_status(status, "r").SerializeToString())
    assert (message.as_of, message.staleness) == (instant(status.as_of), lasting(status.staleness))
    assert message.queue_duration == lasting(status.queue_duration)
    assert list(message.parts) == [encode_part(part) for part in status.parts]
    assert list(message.ladder) == [encode_step(step) for step in status.ladder]
    costs = ((status.predicted, "predicted_cost"), (status.actual, "actual_cost"))
    for cost, name in costs:
        assert (getattr(message, name) if message.HasField(name) else None) == encode_cost(cost)  # type: ignore[arg-type] # a field
    assert message.HasField("staleness")
    assert message.HasField("queue_duration"), "nothing is something else than not known"


@given(PARTS)
def test_a_part_says_where_it_comes_from_and_what_it_covers(part: AnswerPart) -> None:
    message = answer_pb2.AnswerPart.FromString(encode_part(part).SerializeToString())
    assert (message.source_name, message.as_of) == (part.source_name, instant(part.as_of))
    assert message.HasField("interval") is (part.interval is not None)
    assert message.HasField("replica_lag") is (part.replica_lag is not None)
    if part.interval is not None:
        assert message.interval == encode_interval(part.interval)
        ends = (("start_time", part.interval.start), ("end_time", part.interval.end))
        for name, end in ends:
            assert message.interval.HasField(name) is (end is not None)  # type: ignore[arg-type] # a field
            assert end is None or getattr(message.interval, name) == instant(end)


@pytest.mark.parametrize("seconds", [0.0, 0.25])
def test_a_step_that_took_no_time_tells_of_none(seconds: float) -> None:
    message = encode_step(LadderStep(Rung.ROLLUP, Verdict.ANSWERED, "by_hour", ("A", "B"), seconds))
    assert (list(message.codes), message.HasField("duration")) == (["A", "B"], seconds > 0)
    assert message.duration == lasting(seconds)
