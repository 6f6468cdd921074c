"""Answers from datasets that jobs made: on whose terms, what they say of themselves, and what they do not need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

import pytest

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Batch,
    Exactness,
    PartSource,
    Table,
)
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.materialised import Materialised
from broker.domain.model import Dataset, Model
from broker.domain.plan import Finish, ScanResult
from broker.domain.pool import PoolName
from broker.domain.query import Query
from broker.domain.request import CallContext, ExplainAsk, ExploreAsk, ExploreHeader
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency, RollupMode
from broker.domain.values import ResultFormat
from broker.pipeline.cached import asked_of
from broker.pipeline.catalog import Catalog
from broker.pipeline.grids import GridCache
from broker.pipeline.materialised import Materialisations
from broker.pipeline.planner import Planner
from broker.pipeline.streamed import Limits
from broker.policy.materialised import dataset_of
from broker.policy.resolve import resolve_query
from broker.ports.aggregator import Aggregator
from broker.telemetry.instruments import Telemetry
from tests.support.answering import ADA
from tests.support.datasets import flights
from tests.support.virtual_time import START

MADE = START - timedelta(hours=1)
CALL = CallContext("call", ADA, Deadline(1e12), START)
PLANNER = Planner(Catalog(Model({"flights": flights()})), GridCache(), Telemetry.off())
COUNT = Query("kept", ("flights",))
AWAY = BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")


class Still:
    """A clock that stands."""

    def now(self) -> datetime:
        return START

    def monotonic(self) -> float:
        return 0.0


class Made:
    """Stands for the workers: every answer has one row."""

    async def table(
        self,
        pool: PoolName,
        results: tuple[ScanResult, ...],
        finish: Finish,
        encoding: ResultFormat,
        _: Deadline,
    ) -> Table:
        assert (pool, len(results[0].grouped)) == (PoolName.DASHBOARD, 2)
        return Table(finish.columns, 1, encoding, b"table")

    async def batches(
        self, pool: PoolName, results: tuple[ScanResult, ...], _f: Finish, _e: ResultFormat, _: Deadline
    ) -> tuple[Batch, ...]:
        assert (pool, len(results[0].grouped)) == (PoolName.EXPLORATION, 2)
        return Batch(0, 2, b"two"), Batch(0, 1, b"one")


@dataclass
class Finder:
    """What there is, and what was looked for."""

    found: Mapping[str, Dataset | BrokerError]
    error: BrokerError | None = None
    asked: list[Sequence[str]] = field(default_factory=list)

    async def __call__(self, _: CallContext, names: Sequence[str]) -> Mapping[str, Dataset | BrokerError]:
        self.asked.append(names)
        if self.error is not None:
            raise self.error
        return self.found


def kept(exactness: Exactness = Exactness.EXACT) -> Dataset:
    plan = resolve_query(Query("flights", ("flights", "approx_planes"), ("origin",)), flights(), ADA, START)
    status = AnswerStatus(AnswerKind.LIVE, exactness, MADE)
    made = Materialised("tenants/acme/jobs/7", "7.1", plan.columns, (), b"", 3, 9, status, START)
    return dataset_of("kept", plan, made)


async def rows(_: Materialised) -> Sequence[bytes]:
    return b"one", b"two"


def made(finder: Finder | None = None) -> Materialisations:
    aggregator = cast("Aggregator", Made())
    return Materialisations(finder or Finder({"kept": kept()}), rows, aggregator, Still(), GridCache())


async def outcome(policy: AnswerPolicy, dataset: Dataset | None = None, query: Query = COUNT) -> object:
    plan = PLANNER.over(dataset or kept(), query, CALL)
    asked = asked_of(plan, policy, ResultFormat.COLUMNS, Consistency.BOUNDED)
    (found,) = await made().look([asked], CALL, PoolName.DASHBOARD)
    return found


async def test_only_names_that_the_model_does_not_know_are_looked_for() -> None:
    finder = Finder({"kept": kept()})
    planner = await made(finder).planner(PLANNER, CALL, ["flights", "kept", "kept", "none"])
    assert finder.asked == [["kept", "none"]]
    assert planner(COUNT, CALL).main.dataset.materialised is not None
    with pytest.raises(BrokerError) as caught:
        planner(replace(COUNT, dataset="none"), CALL)
    assert caught.value.reason is ErrorReason.DATASET_NOT_FOUND
    assert await made(finder).planner(PLANNER, CALL, ["flights"]) is PLANNER
    assert len(finder.asked) == 1


async def test_while_nobody_can_tell_the_model_s_datasets_are_there() -> None:
    planner = await made(Finder({}, AWAY)).planner(PLANNER, CALL, ["flights", "kept"])
    assert planner(Query("flights", ("flights",)), CALL).main.dataset.name == "flights"
    with pytest.raises(BrokerError) as caught:
        planner(COUNT, CALL)
    assert caught.value is AWAY


async def test_an_answer_says_what_it_is_and_how_old() -> None:
    found = await outcome(AnswerPolicy(cache=CacheMode.ONLY))
    assert isinstance(found, Answer)
    status = found.status
    assert (status.kind, status.exactness, status.as_of) == (AnswerKind.MATERIALIZED, Exactness.EXACT, MADE)
    assert (status.staleness, status.degraded) == (3600.0, False)
    part = AnswerPart(PartSource.MATERIALIZED, "tenants/acme/jobs/7", MADE, None, "7.1", 1, 1.0)
    assert status.parts == (part,)
    by_all = replace(COUNT, measures=("approx_planes",), dimensions=("origin",))
    sketched = await outcome(AnswerPolicy(), query=by_all)
    assert isinstance(sketched, Answer)
    assert sketched.status.exactness is Exactness.BOUNDED


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (AnswerPolicy(max_staleness=3599.0), "max_staleness"),
        (AnswerPolicy(rollup=RollupMode.REQUIRE), "rollup_mode"),
        (AnswerPolicy(accepted_kinds=frozenset({AnswerKind.LIVE})), "accepted_kinds"),
    ],
)
async def test_a_policy_that_it_does_not_satisfy_refuses_it(policy: AnswerPolicy, says: str) -> None:
    found = await outcome(policy)
    assert isinstance(found, BrokerError)
    assert (found.reason, says in found.message) == (ErrorReason.POLICY_UNSATISFIABLE, True)


async def test_what_was_made_of_incomplete_tables_stays_incomplete() -> None:
    found = await outcome(AnswerPolicy(), kept(Exactness.PARTIAL))
    assert isinstance(found, BrokerError)
    assert "partial" in found.message


async def test_a_stream_has_its_rows_in_order_and_its_limits() -> None:
    plan, ask = PLANNER.over(kept(), COUNT, CALL), ExploreAsk(COUNT, AnswerPolicy())
    events = [event async for event in made().stream(plan, ask, CALL, Limits(10, 100))]
    header, first, second, status = events
    assert isinstance(header, ExploreHeader)
    assert header.as_of == MADE
    assert (first, second) == (Batch(0, 2, b"two"), Batch(2, 1, b"one"))
    assert isinstance(status, AnswerStatus)
    assert status.kind is AnswerKind.MATERIALIZED
    with pytest.raises(BrokerError, match="max_row_count"):
        [event async for event in made().stream(plan, replace(ask, max_row_count=2), CALL, Limits(10, 100))]


async def test_an_explanation_needs_no_rows() -> None:
    told = made().explain(PLANNER.over(kept(), COUNT, CALL), ExplainAsk(COUNT, AnswerPolicy()))
    assert (told.expected_kind, told.expected_staleness) == (AnswerKind.MATERIALIZED, 3600.0)
    assert (told.predicted.row_count, told.predicted.byte_count) == (3, 9)
