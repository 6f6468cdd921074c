"""The rung of estimates over a real table: what an answer says, and why there is none."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import pytest

from broker.adapters.pg_store import PgStore
from broker.domain.answer import Answer, AnswerKind, Exactness, LadderStep, PartSource, Verdict
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import RowPolicy
from broker.domain.query import Condition, Grain, Operator, OrderKey, Query, TimeSelection
from broker.domain.sample import NoEstimate
from broker.pipeline.estimated import LINE
from querybroker.v1 import answer_pb2
from tests.integration.store.conftest import CLOCK, Watcher, in_time
from tests.support.estimates import ask, columns_of, estimate, group_of, plan_of, rung_of, seeds, truth
from tests.support.samples import DAYS, days, events, uniform


async def test_an_answer_says_what_it_is_worth(events_store: PgStore) -> None:
    query = replace(
        uniform("events", "revenue", "mean_amount"), dimensions=("region",), order=(OrderKey("events", True),)
    )
    answer = await ask(events_store, query)
    assert isinstance(answer, Answer)
    exact = await truth(events_store, plan_of(query))
    status, found = answer.status, columns_of(answer)
    assert (status.kind, status.exactness) == (AnswerKind.ESTIMATE, Exactness.ESTIMATED)
    assert [part.source for part in status.parts] == [PartSource.SAMPLE]
    assert 0 < status.parts[0].share < 0.6
    assert list(found) == [
        "region", "events", "revenue", "mean_amount", "events__lower", "events__upper",
        "revenue__lower", "revenue__upper", "mean_amount__lower", "mean_amount__upper",
    ]  # fmt: skip
    assert found["events"] == sorted(found["events"], reverse=True)
    assert {(region,) for region in found["region"]} == set(exact)
    for bound, name in zip(status.bounds, ("events", "revenue", "mean_amount"), strict=True):
        assert (bound.measure, bound.method, bound.confidence, bound.suppressed) == (
            name,
            "BLOCK_SAMPLE",
            0.95,
            0,
        )
        widths = [
            max(float(high) - float(value), float(value) - float(low)) / float(value)
            for value, low, high in zip(found[name], found[bound.lower], found[bound.upper], strict=True)
        ]
        assert bound.relative_error == pytest.approx(max(widths), rel=0.02)
        assert bound.relative_error <= 0.25


async def test_a_bucket_that_the_sample_missed_is_null_and_never_zero(events_store: PgStore) -> None:
    week = TimeSelection(range=days(0, DAYS + 14).range, grain=Grain.WEEK, gap_fill=True)
    answer = await ask(events_store, Query("events", ("pieces",), time=week))
    assert isinstance(answer, Answer)
    table = answer_pb2.Table.FromString(answer.table.encoded)
    known = table.columns.columns[1]
    assert known.validity
    assert 0 not in [
        value for i, value in enumerate(known.int64_values.values) if known.validity[i // 8] >> i % 8 & 1
    ]


@pytest.mark.parametrize(
    ("query", "verdict", "code"),
    [
        (Query("events", ("largest",)), Verdict.NOT_APPLICABLE, NoEstimate.MEASURE),
        (Query("events", ("means",)), Verdict.NOT_APPLICABLE, NoEstimate.MEASURE),
        (Query("events", dimensions=("shop",)), Verdict.NOT_APPLICABLE, NoEstimate.NO_MEASURE),
        (replace(uniform("events"), having=Condition("events", Operator.GT, (1,))), Verdict.NOT_APPLICABLE,
         NoEstimate.HAVING),
        (Query("events", ("pieces",), ("shop",), limit=3, order=(OrderKey("pieces", True),)), Verdict.REFUSED,
         NoEstimate.CHOSEN),
        (Query("events", ("rare",)), Verdict.REFUSED, NoEstimate.TOO_THIN),
    ],
)  # fmt: skip
async def test_why_there_is_no_estimate(
    events_store: PgStore, query: Query, verdict: Verdict, code: NoEstimate
) -> None:
    step = await ask(events_store, query)
    assert isinstance(step, LadderStep)
    assert (step.verdict, step.codes) == (verdict, (code.value,))


async def test_nobody_waits_for_a_lane_that_stays_taken(events_store: PgStore) -> None:
    rung, group = rung_of(events_store), group_of(plan_of(uniform("events")))
    async with rung._place(in_time()) as free:  # the lane is taken for as long as the test likes
        assert free
        soon = Deadline.after(0.2, CLOCK.monotonic())
        step = await rung.answer(group.questions[0], group, soon)
    assert isinstance(step, LadderStep)
    assert (step.verdict, step.codes) == (Verdict.REFUSED, (NoEstimate.BUSY.value,))
    assert LINE > 0


async def test_a_deadline_ends_the_statement(
    events_store: PgStore, events_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    group = group_of(plan_of(uniform("events")))
    step = await rung_of(events_store).answer(group.questions[0], group, Deadline(CLOCK.monotonic()))
    assert isinstance(step, LadderStep)
    assert step.verdict is Verdict.TIMED_OUT
    with pytest.raises(BrokerError) as caught:
        await estimate(
            events_store, plan_of(uniform("events"), events("few", policies=[_needing("nothing")])), seeds()
        )
    assert caught.value.reason is ErrorReason.PERMISSION_DENIED
    assert await Watcher(events_connection).nothing_runs()


def _needing(attribute: str) -> RowPolicy:
    return RowPolicy("needs", f"events.note = {{attributes.{attribute}}}", ("events",))
