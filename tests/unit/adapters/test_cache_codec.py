"""Answers as bytes: what comes back is what was written, or nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.adapters.cache_codec import PREFIX, CorruptEntryError, Entry, decode, encode, rank, reach_of
from broker.domain import answer as a
from broker.domain.held import Content, Held, Reach
from broker.domain.query import AbsoluteRange, Condition, Grain, Operator
from broker.domain.rollup import ALWAYS, Span
from broker.domain.values import Column, ColumnRole, DataType, ResultFormat

KEY = "k" * 32
NOON = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
instants = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is given
spans = st.builds(Span, st.integers(-(2**62), 0), st.integers(1, 2**62)) | st.just(ALWAYS)
texts = st.text(max_size=8)
intervals = st.builds(a.Interval, st.none() | instants, st.none() | instants)
parts = st.builds(
    a.AnswerPart,
    st.sampled_from(a.PartSource),
    texts,
    instants,
    st.none() | intervals,
    texts,
    st.integers(0, 2**40),
    st.floats(0, 1),
    st.none() | st.floats(0, 100),
)
costs = st.builds(a.Cost, st.floats(0, allow_nan=False), st.floats(0, allow_nan=False), st.integers(0, 2**40))
statuses = st.builds(
    a.AnswerStatus,
    st.sampled_from(a.AnswerKind),
    st.sampled_from(a.Exactness),
    instants,
    guarantee=st.sampled_from(a.Guarantee),
    reasons=st.lists(st.sampled_from(a.DegradationReason), max_size=2).map(tuple),
    data_watermark=st.none() | instants,
    parts=st.lists(parts, max_size=3).map(tuple),
    sealed_intervals=st.lists(intervals, max_size=2).map(tuple),
    effective_range=st.none() | intervals,
    bounds=st.lists(st.builds(a.ErrorBound, texts, texts, st.floats(0, 1), st.floats(0, 1)), max_size=2).map(
        tuple
    ),
    predicted=st.none() | costs,
    cost_class=st.none() | st.sampled_from(a.CostClass),
)
values = st.sampled_from([1, 1.5, True, "a", Decimal("1.50"), NOON, NOON.date()])
contents = st.builds(
    Content,
    texts,
    texts,
    bounds=st.none() | st.just(AbsoluteRange(NOON, NOON + timedelta(days=1))),
    grain=st.none() | st.sampled_from(Grain),
    filter=st.lists(
        st.builds(Condition, texts, st.sampled_from(Operator), st.tuples(values)), max_size=2
    ).map(tuple),
    limit=st.integers(0, 9),
)
columns = st.builds(Column, texts, st.sampled_from(DataType), st.sampled_from(ColumnRole), st.integers(0, 38))
helds = st.builds(
    Held,
    st.just(KEY),
    st.builds(
        a.Table,
        st.lists(columns, max_size=3).map(tuple),
        st.integers(0, 2**31),
        st.sampled_from(ResultFormat),
        st.binary(max_size=64),
    ),
    statuses,
    st.builds(
        Reach, texts, st.lists(texts, max_size=2).map(tuple), st.dictionaries(texts, spans, max_size=2)
    ),
    texts,
    st.floats(0, 100),
    st.none() | contents,
)


@settings(max_examples=40)
@given(helds, instants)
def test_what_is_written_is_read(held: Held, until: datetime) -> None:
    entry = Entry(held, until)
    data = encode(entry)
    back = decode(KEY, data)
    assert back == entry
    assert back.held.content is None or repr(back.held.content) == repr(
        held.content
    )  # 1, 1.0 and True differ
    assert reach_of(data[:PREFIX]) == held.reach


@settings(max_examples=40)
@given(helds, st.data())
def test_one_byte_that_is_not_right_is_noticed(held: Held, data: st.DataObject) -> None:
    good = encode(Entry(held, NOON))
    place = data.draw(st.integers(0, len(good) - 1))
    bad = good[:place] + bytes([good[place] ^ data.draw(st.integers(1, 255))]) + good[place + 1 :]
    for wrong in (bad, good[:place], good + b"x"):
        with pytest.raises(CorruptEntryError):
            decode(KEY, wrong)
        reach_of(wrong[:PREFIX])  # says something or nothing, but never fails


def test_an_entry_belongs_under_its_own_key() -> None:
    status = a.AnswerStatus(a.AnswerKind.LIVE, a.Exactness.EXACT, NOON)
    held = Held(KEY, a.Table((), 0, ResultFormat.ARROW, b"rows"), status, Reach("flights"))
    with pytest.raises(CorruptEntryError, match="key"):
        decode("x" * 32, encode(Entry(held, NOON)))
    assert b"pickle" not in encode(Entry(held, NOON))
    assert reach_of(encode(Entry(replace(held, reach=Reach("d" * PREFIX)), NOON))[:PREFIX]) is None


@given(instants, instants)
def test_later_instants_rank_higher(one: datetime, other: datetime) -> None:
    assert (rank(one) < rank(other)) == (one < other)
