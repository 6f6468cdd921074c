"""Rows that retention has dropped are never missed in silence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.domain.answer import AnswerKind, Exactness, Interval
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Query, TimeSelection
from broker.domain.request import RequestKind
from broker.domain.rollup import Cover, Piece, Span, micros
from broker.domain.terms import AnswerPolicy, PartialMode
from broker.domain.values import ResultFormat
from broker.pipeline.sealed import gone, missing
from broker.pipeline.stage import Question
from broker.pipeline.status import Sources, status_of
from broker.policy.classify import Classifier, Subject
from broker.policy.resolve import resolve_query
from tests.support.datasets import flights

NOW = datetime(2024, 6, 1, tzinfo=UTC)
JANUARY = Span(micros(datetime(2013, 1, 1, tzinfo=UTC)), micros(datetime(2013, 2, 1, tzinfo=UTC)))
SEALS = {flights().default_time: (JANUARY,)}
CLASSIFIED = Classifier().classify(Subject(RequestKind.DASHBOARD, ""), 0.0)


def question(start: datetime, end: datetime, partial: PartialMode = PartialMode.FORBID) -> Question:
    """A count over a range of a dataset whose first month is sealed."""
    dataset = flights()
    asked = Query("flights", ("flights",), time=TimeSelection(range=AbsoluteRange(start, end)))
    plan = resolve_query(asked, dataset, Principal("ada", "acme"), NOW)
    policy = replace(AnswerPolicy(), partial=partial)
    return Question("", plan, policy, ResultFormat.COLUMNS, CLASSIFIED)


def told(asked: Question, covers: tuple[Cover, ...] = ()) -> tuple[Span, ...]:
    """What the tables lack of it, if the caller accepts that."""
    return gone(asked.plan, asked.policy, SEALS, covers)


def days(first: int, last: int) -> tuple[datetime, datetime]:
    return datetime(2013, 1, first, tzinfo=UTC), datetime(2013, 2, last, tzinfo=UTC)


def test_what_the_tables_may_lack_is_refused() -> None:
    with pytest.raises(BrokerError) as caught:
        told(question(*days(31, 10)))
    assert caught.value.reason is ErrorReason.POLICY_UNSATISFIABLE
    assert caught.value.metadata["rule"] == "SEAL"
    assert "partial_mode ALLOW" in caught.value.message


def test_a_range_beside_it_and_a_rollup_over_it_need_nothing_of_it() -> None:
    february = datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 2, 10, tzinfo=UTC)
    assert told(question(*february)) == ()
    start, end = days(1, 10)
    cover = Cover((Piece("monthly", (JANUARY,)), Piece("", (Span(JANUARY.hi, micros(end)),))), 0.1)
    assert told(question(start, end), (cover,)) == ()
    assert missing(question(start, end).plan, SEALS, (replace(cover, pieces=(Piece("", (JANUARY,)),)),)) == (
        JANUARY,
    )


def test_along_another_time_dimension_nobody_knows() -> None:
    plain = question(*days(1, 10))
    scan = replace(plain.plan.main, time=None, bounds=None)
    assert missing(replace(plain.plan, main=scan), SEALS) == (JANUARY,)


def test_who_accepts_incomplete_answers_is_told_what_they_may_miss() -> None:
    asked = question(*days(31, 10), PartialMode.ALLOW)
    sealed = told(asked)
    status = status_of(asked, Sources(NOW, sealed=sealed), NOW, None)
    assert (status.kind, status.exactness) == (AnswerKind.LIVE, Exactness.PARTIAL)
    assert status.sealed_intervals == (
        Interval(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC)),
    )
