"""Stages around a handler that answers: what they refuse, what they let pass, and that panels keep their places."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    CostClass,
    Exactness,
    PartSource,
    Table,
)
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import Basis, CallContext, Classification, RequestKind
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency
from broker.domain.values import ResultFormat
from broker.pipeline.execute import pool_of
from broker.pipeline.parted import by_pool
from broker.pipeline.routed import routed, too_stale
from broker.pipeline.sized import fitting, sized
from broker.pipeline.stage import Group, Handler, Outcome, Question
from broker.policy.admission.values import Quantiles
from broker.policy.classify import Classified, Classifier, Subject
from broker.policy.resolve import resolve_query
from tests.support.datasets import flights

NOW = datetime(2024, 1, 1, tzinfo=UTC)
CONTEXT = CallContext("r", Principal("ada", "acme"), Deadline(10.0), NOW)
DATASET = replace(flights(), max_staleness=2.0)
PLAN = resolve_query(Query("flights", measures=("flights",)), DATASET, CONTEXT.principal, NOW)
HEAVY = Classified(
    Classification(CostClass.EXPLORATION, PoolName.EXPLORATION, Basis.HISTORY),
    Cost(20.0),
    Quantiles(9, 20, 30),
)
CLASSIFIED = Classifier().classify(Subject(RequestKind.DASHBOARD, PLAN.fingerprint), 0.0)


def answer(rows: int = 1, size: int = 1, lag: float | None = None) -> Answer:
    """An answer of so many rows and bytes, from a replica with that lag."""
    part = AnswerPart(PartSource.LIVE, "replica", NOW, replica_lag=lag)
    table = Table((), rows, ResultFormat.COLUMNS, bytes(size))
    return Answer(table, AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, NOW, parts=(part,)))


def group(*policies: AnswerPolicy) -> Group:
    """A question for each policy."""
    questions = tuple(
        Question(str(i), PLAN, policy, ResultFormat.COLUMNS, CLASSIFIED) for i, policy in enumerate(policies)
    )
    return Group(CONTEXT, RequestKind.DASHBOARD, questions)


class Source:
    """Answers the questions that it is asked with what it was given."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = outcomes
        self.asked: list[str] = []

    async def __call__(self, group: Group) -> Sequence[Outcome]:
        self.asked += [question.id for question in group.questions]
        return self.outcomes


def reasons(outcomes: Sequence[Outcome]) -> list[str]:
    return [o.reason.value if isinstance(o, BrokerError) else "" for o in outcomes]


def test_an_answer_beyond_the_limits_is_an_error_of_its_panel_alone() -> None:
    failed = BrokerError(ErrorReason.STORE_REJECTED, "no")
    source = Source(answer(10, 100), answer(11, 1), failed, answer(1, 101))
    outcomes = asyncio.run(_run(sized(fitting(10, 100))(source), group(*[AnswerPolicy()] * 4)))
    assert reasons(outcomes) == ["", "RESULT_TOO_LARGE", "STORE_REJECTED", "RESULT_TOO_LARGE"]
    named = [o.metadata["limit"] for o in outcomes if isinstance(o, BrokerError) and "limit" in o.metadata]
    assert named == ["max_rows", "max_bytes"]


def test_what_no_source_may_answer_is_not_passed_on_and_the_rest_keeps_its_place() -> None:
    source = Source(answer(1), answer(2))
    only = AnswerPolicy(cache=CacheMode.ONLY)
    outcomes = asyncio.run(_run(routed(source), group(AnswerPolicy(), only, AnswerPolicy())))
    assert source.asked == ["0", "2"]
    assert reasons(outcomes) == ["", "POLICY_UNSATISFIABLE", ""]
    assert [o.table.row_count for o in outcomes if isinstance(o, Answer)] == [1, 2]


@pytest.mark.parametrize(
    ("wanted", "lag", "reason"),
    [
        (None, None, ""),
        (None, 2.0, ""),
        (None, 2.1, "POLICY_UNSATISFIABLE"),
        (5.0, 2.1, ""),
        (0.0, 0.0, ""),
        (0.0, 0.1, "POLICY_UNSATISFIABLE"),
    ],
)
def test_a_replica_may_lag_as_far_as_the_caller_or_else_the_dataset_allows(
    wanted: float | None, lag: float | None, reason: str
) -> None:
    outcomes = asyncio.run(_run(routed(Source(answer(lag=lag))), group(AnswerPolicy(max_staleness=wanted))))
    assert reasons(outcomes) == [reason]


def test_without_a_limit_any_lag_will_do() -> None:
    assert too_stale(AnswerPolicy(), None, 1e6) is None


def test_panels_that_need_not_agree_run_in_the_seats_of_their_own_class() -> None:
    asked: list[list[str]] = []

    async def handler(part: Group) -> Sequence[Outcome]:
        asked.append([question.id for question in part.questions])
        if part.questions[0].classified is HEAVY:
            raise BrokerError(ErrorReason.OVERLOADED, "full")
        return [answer(int(question.id) + 1) for question in part.questions]

    panels = group(*[AnswerPolicy()] * 3)
    heavy = replace(panels.questions[1], classified=HEAVY)
    mixed = replace(panels, questions=(panels.questions[0], heavy, panels.questions[2]))
    outcomes = asyncio.run(_run(partial(by_pool, handler), replace(mixed, consistency=Consistency.ANY)))
    assert sorted(asked) == [["0", "2"], ["1"]]
    assert reasons(outcomes) == ["", "OVERLOADED", ""]
    assert [o.table.row_count for o in outcomes if isinstance(o, Answer)] == [1, 3]


def test_panels_of_one_snapshot_share_the_seats_of_the_heaviest() -> None:
    source = Source(answer(1), answer(2))
    panels = group(AnswerPolicy(), AnswerPolicy())
    mixed = replace(panels, questions=(panels.questions[0], replace(panels.questions[1], classified=HEAVY)))
    asyncio.run(_run(partial(by_pool, source), mixed))
    assert source.asked == ["0", "1"]
    assert pool_of(mixed) is PoolName.EXPLORATION


async def _run(handler: Handler, asked: Group) -> Sequence[Outcome]:
    return await handler(asked)
