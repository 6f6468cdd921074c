"""Questions are counted by kind, survive the process, and come back as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from broker.domain.answer import Cost
from broker.domain.model import RowPolicy
from broker.domain.principal import Principal
from broker.domain.query import (
    AbsoluteRange,
    AllOf,
    AnyOf,
    Calculations,
    CompareTo,
    Condition,
    DateRange,
    Grain,
    Not,
    Operator,
    OrderKey,
    Query,
    RelativeRange,
    RollingWindow,
    ShareOfTotal,
    TimeRange,
    TimeSelection,
    TopN,
)
from broker.domain.request import RequestKind
from broker.domain.terms import AnswerPolicy
from broker.domain.values import ResultFormat
from broker.pipeline.stage import Question
from broker.policy.classify import Classifier, Run, Subject
from broker.policy.query_json import decode, encode
from broker.policy.resolve import resolve_query
from broker.rollups.query_log import QueryLog, log_path, read_records
from tests.support.datasets import flights
from tests.support.segments import START, HandClock

ADA = Principal("ada", "acme")
EVERYTHING = Query(
    "flights",
    ("flights", "distance"),
    ("carrier",),
    TimeSelection("time_hour", Grain.DAY, "Europe/Berlin", RelativeRange(7, Grain.DAY), gap_fill=True),
    AllOf((
        Condition("origin", Operator.IN, ("JFK", 'a"\n\U0001f600')),
        AnyOf((Condition("month", Operator.EQ, (3,)), Condition("late", Operator.EQ, (True,)))),
        Not(Condition("hours", Operator.LT, (Decimal("1.50"),))),
        Condition("speed", Operator.GT, (float("inf"),)),
        Condition("day", Operator.EQ, (date(2013, 2, 3),)),
        Condition("time_hour", Operator.LE, (datetime(2013, 2, 3, tzinfo=UTC),)),
        Condition("tailnum", Operator.IS_NULL),
    )),
    Condition("flights", Operator.GE, (10,)),
    (OrderKey("flights", descending=True),),
    10,
    Calculations(
        TopN(5, "carrier", "flights", other=True),
        CompareTo(1, Grain.YEAR, ("flights",)),
        (ShareOfTotal("flights", ("carrier",)),),
        (RollingWindow("flights", 7),),
    ),
)  # fmt: skip
RANGES: list[TimeRange | None] = [
    AbsoluteRange(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, 1, 2, 3, 4, tzinfo=UTC)),
    DateRange(date(2013, 1, 1), date(2013, 2, 1)),
    None,
]


@pytest.mark.parametrize(
    "query",
    [
        EVERYTHING,
        Query("flights"),
        *[Query("flights", time=TimeSelection(range=bounds)) for bounds in RANGES],
    ],
)
def test_a_query_comes_back_from_json_as_it_was(query: Query) -> None:
    text = json.dumps(encode(query), allow_nan=False)
    assert decode(json.loads(text)) == query


@pytest.mark.parametrize(
    "text",
    ['{"is": "Nothing"}', '{"is": "Query"}', '{"is": "Query", "dataset": "a", "measures": [{}]}',
     '{"is": "TimeSelection", "grain": "eon"}', '{"is": "date", "value": "soon"}', '{"is": "Query", "no": 1}'],
)  # fmt: skip
def test_what_is_no_query_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(json.loads(text))


def question(query: Query, policies: tuple[RowPolicy, ...] = ()) -> Question:
    plan = resolve_query(query, flights(policies=policies), ADA, START)
    classified = Classifier().classify(Subject(RequestKind.DASHBOARD, plan.fingerprint), 0.0)
    return Question("1", plan, AnswerPolicy(), ResultFormat.COLUMNS, classified)


def by(dimension: str, origin: str = "JFK") -> Question:
    where = Condition("origin", Operator.EQ, (origin,))
    return question(Query("flights", ("flights",), (dimension,), filter=where))


def test_questions_that_differ_in_literals_are_of_one_kind(tmp_path: Path, clock: HandClock) -> None:
    path = log_path(tmp_path / "log", None)
    log = QueryLog(path, clock)
    for origin in ("JFK", "EWR"):
        log.observe(by("carrier", origin), Run(0.5))
        clock.seconds += 1
    log.observe(by("dest"), Run(3.0))
    log.save()
    dest, carrier = read_records([path])
    assert (dest.query.dimensions, dest.count, dest.live_seconds) == (("dest",), 1, 3.0)
    assert (carrier.count, carrier.live_seconds) == (2, 1.0)
    assert carrier.query == by("carrier", "EWR").plan.query, "the later one"
    assert path.stat().st_mode & 0o077 == 0


def test_a_question_that_rollups_answered_counts_with_what_it_takes_live(
    tmp_path: Path, clock: HandClock
) -> None:
    log = QueryLog(tmp_path / "a.jsonl", clock)
    plain = by("carrier")
    live = replace(plain.classified, predicted=Cost(2.0))
    log.observe(replace(plain, live=live), Run(0.01))
    log.observe(replace(plain, live=live, classified=live), Run(1.5))
    log.observe(plain, Run(0.25))
    log.observe(plain, Run(9.0, cut_short=True))
    log.save()
    (record,) = read_records([tmp_path / "a.jsonl"])
    assert (record.count, record.live_seconds) == (3, 3.75)


def test_a_process_goes_on_with_its_file_and_readers_take_all_of_them(
    tmp_path: Path, clock: HandClock
) -> None:
    paths = [log_path(tmp_path, process) for process in (0, 1)]
    for path in (paths[0], paths[1], paths[0]):
        log = QueryLog(path, clock)
        log.observe(by("carrier"), Run(1.0))
        log.save()
    assert [record.count for record in read_records([paths[0]])] == [2]
    assert [record.count for record in read_records([*paths, tmp_path / "none.jsonl"])] == [3]


def test_names_of_row_policies_are_kept(tmp_path: Path, clock: HandClock) -> None:
    policy = RowPolicy("own_carrier", "flights.carrier = {tenant}", ("flights",))
    log = QueryLog(tmp_path / "a.jsonl", clock)
    log.observe(question(Query("flights", ("flights",)), (policy,)), Run(1.0))
    log.save()
    assert [record.policies for record in read_records([tmp_path / "a.jsonl"])] == [("own_carrier",)]


def test_the_kinds_that_take_longest_are_kept(tmp_path: Path, clock: HandClock) -> None:
    log = QueryLog(tmp_path / "a.jsonl", clock, limit=2)
    for dimension, seconds in (("carrier", 2.0), ("dest", 0.5), ("month", 1.0)):
        log.observe(by(dimension), Run(seconds))
    log.save()
    assert [record.query.dimensions for record in read_records([tmp_path / "a.jsonl"])] == [
        ("carrier",),
        ("month",),
    ]


def test_broken_lines_are_skipped(tmp_path: Path, clock: HandClock) -> None:
    path = tmp_path / "a.jsonl"
    log = QueryLog(path, clock)
    log.observe(by("carrier"), Run(1.0))
    log.save()
    path.write_text(f'{path.read_text()}{{"half\n{{}}\n[]\n{{"query": 1}}\n')
    assert len(read_records([path])) == 1


def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").write_text("")
    log = QueryLog(tmp_path / "log" / "a.jsonl", clock)
    for _ in range(2):
        log.observe(by("carrier"), Run(1.0))
        log.save()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    (tmp_path / "log").unlink()
    log.save()
    assert [record.count for record in read_records([tmp_path / "log" / "a.jsonl"])] == [2]
