"""What tests of estimates share: plans about the events, estimates of them, the truth, and what finishes answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count

from broker.adapters.pg_samples import PgSamples
from broker.adapters.pg_store import PgStore
from broker.aggregation import inline, kernels
from broker.aggregation.encode import table as encoded
from broker.aggregation.sampled import block_sums
from broker.domain.answer import Answer, AnswerKind, LadderStep, Table
from broker.domain.deadline import Deadline
from broker.domain.model import Dataset, RowPolicy
from broker.domain.plan import Finish, HeldBlock, Plan, ScanResult
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import CallContext, RequestKind
from broker.domain.sample import BlockSums, Figure, KeptRows, NoEstimate
from broker.domain.terms import AnswerPolicy, Consistency
from broker.domain.values import ResultFormat
from broker.pipeline.drawing import Asked, draw
from broker.pipeline.estimated import Estimated
from broker.pipeline.stage import Group, Question
from broker.policy.classify import Classifier, Subject
from broker.policy.estimate_design import Told
from broker.policy.estimate_figures import figures
from broker.policy.resolve import resolve_query
from broker.policy.rollups.seals import Seals
from broker.runtime.clock import SystemClock
from querybroker.v1 import answer_pb2
from tests.support.samples import START, events

CLOCK = SystemClock()
ADA = Principal("ada", "acme", attributes={"shop": "3"})
ESTIMATES = AnswerPolicy(accepted_kinds=frozenset({AnswerKind.ESTIMATE}))
OWN = RowPolicy("own shop", "events.shop = {attributes.shop}::int", ("events",), terms=None)


def plan_of(query: Query, dataset: Dataset | None = None, principal: Principal = ADA) -> Plan:
    return resolve_query(query, dataset or events(), principal, START)


def seeds(first: int = 1) -> Iterator[int]:
    return count(first * 1_000)


async def estimate(
    store: PgStore, plan: Plan, numbers: Iterator[int], limit: float = 0.25
) -> tuple[Told, BlockSums] | NoEstimate:
    deadline = Deadline.after(60.0, CLOCK.monotonic())
    async with PgSamples(store).table(PoolName.ADMIN, plan, deadline) as table:
        return await draw(table, Asked(figures(plan), limit, deadline), lambda: next(numbers), CLOCK)


async def truth(store: PgStore, plan: Plan) -> dict[tuple[object, ...], list[float]]:
    keys, own = len(plan.finish.keys), figures(plan)
    async with store.snapshot(PoolName.DASHBOARD, Deadline.after(60.0, CLOCK.monotonic())) as snapshot:
        results = await snapshot.read(plan)
    frame, *_ = kernels.merged(results, plan.finish)
    found: dict[tuple[object, ...], list[float]] = {}
    for row in frame.iter_rows(named=True):
        key = tuple(row.values())[:keys]
        found[key] = [
            float(row[figure.above]) / (float(row[figure.below]) if figure.below else 1.0) for figure in own
        ]
    return found


class Inline:
    """Finishes answers in this process."""

    async def table(
        self,
        pool: PoolName,
        results: tuple[ScanResult, ...],
        finish: Finish,
        encoding: ResultFormat,
        deadline: Deadline,
    ) -> Table:
        found = inline.table(results, finish, encoding)
        if found is None:
            frame = kernels.answer(results, finish)
            found = frame.height, encoded(frame, finish.columns, encoding)
        return Table(finish.columns, *_swapped(found, encoding))

    async def block_sums(
        self,
        pool: PoolName,
        kept: KeptRows,
        block: HeldBlock,
        figures: tuple[Figure, ...],
        most: int,
        deadline: Deadline,
    ) -> BlockSums | None:
        return block_sums(kept, block, figures, most)


def _swapped(found: tuple[int, bytes], encoding: ResultFormat) -> tuple[int, ResultFormat, bytes]:
    return found[0], encoding, found[1]


def nothing_sealed(_: Dataset) -> Seals:
    """The tables have all their rows."""
    return {}


def _free(_: CallContext) -> nullcontext[None]:
    return nullcontext()


def rung_of(store: PgStore) -> Estimated:
    numbers = seeds()
    aggregator = Inline()
    return Estimated(PgSamples(store), aggregator, _free, CLOCK, lambda: next(numbers), nothing_sealed)  # type: ignore[arg-type] # of the aggregator only this is used


def group_of(
    plan: Plan, policy: AnswerPolicy = ESTIMATES, consistency: Consistency = Consistency.ANY
) -> Group:
    classified = Classifier().classify(Subject(RequestKind.DASHBOARD, plan.fingerprint), 0.0)
    question = Question("", plan, policy, ResultFormat.COLUMNS, classified)
    context = CallContext("r", ADA, Deadline.after(60.0, CLOCK.monotonic()), START)
    return Group(context, RequestKind.DASHBOARD, (question,), consistency)


async def ask(store: PgStore, query: Query, policy: AnswerPolicy = ESTIMATES) -> Answer | LadderStep:
    group = group_of(plan_of(query), policy)
    return await rung_of(store).answer(group.questions[0], group, group.context.deadline)


def columns_of(answer: Answer) -> dict[str, list[float | int | str]]:
    table = answer_pb2.Table.FromString(answer.table.encoded)
    found: dict[str, list[float | int | str]] = {}
    for schema, column in zip(table.schema, table.columns.columns, strict=True):
        kind = column.WhichOneof("values")
        assert kind is not None
        values = getattr(column, kind)
        found[schema.name] = list(
            [values.dictionary[i] for i in values.indices] if kind.startswith("string") else values.values
        )
    return found
