"""Estimates from samples of real tables: what they say, how often their limits hold, and when there are none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import count

import asyncpg
import pytest

from broker.adapters.pg_samples import PgSamples
from broker.adapters.pg_store import PgStore
from broker.aggregation import inline, kernels
from broker.aggregation.encode import table as encoded
from broker.domain.answer import Answer, AnswerKind, Exactness, LadderStep, PartSource, Table, Verdict
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, RowPolicy
from broker.domain.plan import Finish, Plan, ScanResult
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import Condition, Grain, Operator, OrderKey, Query, TimeSelection
from broker.domain.request import CallContext, RequestKind
from broker.domain.sample import BlockSums, Draw, NoEstimate
from broker.domain.terms import AnswerPolicy, Consistency
from broker.domain.values import ResultFormat
from broker.pipeline.estimated import LINE, Asked, Estimated, draw
from broker.pipeline.stage import Group, Question
from broker.policy.classify import Classifier, Subject
from broker.policy.estimate_design import Told
from broker.policy.estimate_figures import figures
from broker.policy.resolve import resolve_query
from querybroker.v1 import answer_pb2
from tests.integration.store.conftest import CLOCK, MakeStore, Watcher, in_time
from tests.support.pg import Databases
from tests.support.samples import DAYS, KIND, START, clustered, days, events, make_events, uniform

ROWS = 250_000
TRIALS = 10
ADA = Principal("ada", "acme", attributes={"shop": "3"})
ESTIMATES = AnswerPolicy(accepted_kinds=frozenset({AnswerKind.ESTIMATE}))
OWN = RowPolicy("own shop", "events.shop = {attributes.shop}::int", ("events",), terms=None)


@pytest.fixture(scope="module")
def events_dsn(databases: Databases) -> str:
    """The events, in one table, in partitions, thinned out, in a view, and in tables of few rows and of none."""
    from tests.support.pg import run_sync

    async def make() -> str:
        dsn = await databases.create()
        connection = await asyncpg.connect(dsn)
        await make_events(connection, ROWS)
        await make_events(connection, 200_000, "parted", partitions=2)
        await make_events(connection, 100, "few")
        await make_events(connection, 0, "nothing")
        await connection.execute("CREATE VIEW seen AS SELECT * FROM events")
        await connection.execute("CREATE TABLE thinned AS SELECT * FROM events")
        await connection.execute("DELETE FROM thinned WHERE at > $1::timestamptz + interval '45 days'", START)
        await connection.execute("ANALYZE thinned")
        name = dsn.rpartition("/")[2]  # the tables are too small for the planner to like samples of them
        await connection.execute(f"ALTER DATABASE {name} SET random_page_cost = 0.2")
        await connection.close()
        return dsn

    return run_sync(make())


@pytest.fixture
async def own(events_dsn: str, make_store: MakeStore) -> PgStore:
    """A store on the events."""
    return await make_store(events_dsn)


@pytest.fixture
async def connection(events_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test's own."""
    found = await asyncpg.connect(events_dsn)
    yield found
    await found.close()


def plan_of(query: Query, dataset: Dataset | None = None, principal: Principal = ADA) -> Plan:
    return resolve_query(query, dataset or events(), principal, START)


def seeds(first: int = 1) -> Iterator[int]:
    return count(first * 1_000)


async def estimate(
    store: PgStore, plan: Plan, numbers: Iterator[int], limit: float = 0.25
) -> tuple[Told, BlockSums] | NoEstimate:
    deadline = in_time()
    async with PgSamples(store).table(PoolName.ADMIN, plan, deadline) as table:
        return await draw(table, Asked(figures(plan), limit, deadline), lambda: next(numbers), CLOCK)


async def truth(store: PgStore, plan: Plan) -> dict[tuple[object, ...], list[float]]:
    keys, own = len(plan.finish.keys), figures(plan)
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        results = await snapshot.read(plan)
    frame, *_ = kernels.merged(results, plan.finish)
    found: dict[tuple[object, ...], list[float]] = {}
    for row in frame.iter_rows(named=True):
        key = tuple(row.values())[:keys]
        found[key] = [
            float(row[figure.above]) / (float(row[figure.below]) if figure.below else 1.0) for figure in own
        ]
    return found


REGION = Query("events", ("pieces", "mean_amount"), ("region",))
PARTED = events("parted")
VISIBLE = events(policies=[OWN])
WEEKS = TimeSelection(range=days(0, DAYS).range, grain=Grain.WEEK)


@pytest.mark.parametrize(
    ("query", "dataset"),
    [
        (uniform("events", "revenue", "per_piece"), events()),
        (clustered("events", "mean_amount", count=30), events()),
        (REGION, events()),
        (Query("events", ("events", "mean_amount")), VISIBLE),
        (uniform("events", "mean_amount"), PARTED),
        (clustered("pieces", first=35, count=30), PARTED),
        (Query("events", ("pieces",), time=WEEKS), events()),
        (uniform("revenue"), events("thinned")),
    ],
    ids=["uniform", "clustered", "joined", "policy", "parted", "parted-clustered", "weeks", "thinned"],
)
async def test_limits_hold_the_exact_values(own: PgStore, query: Query, dataset: Dataset) -> None:
    plan, numbers = plan_of(query, dataset), seeds()
    exact = await truth(own, plan)
    held = said = answered = 0
    refused: list[str] = []
    for _ in range(TRIALS):
        found = await estimate(own, plan, numbers)
        if isinstance(found, NoEstimate):
            refused.append(found.value)
            continue
        answered += 1
        for key, limits in found[0].groups.items():
            for each, value in zip(limits, exact[key], strict=True):
                said += 1
                held += each.lower <= value <= each.upper
                assert each.value == pytest.approx(value, rel=0.6)
    # The table and the seeds are always the same.
    assert answered > 0.7 * TRIALS, refused
    assert held / said >= 0.85


async def test_drawn_blocks_are_counted_with_those_in_which_nothing_matches(
    own: PgStore, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    plan = plan_of(Query("events", ("events",)), events("thinned"))
    async with PgSamples(own).table(PoolName.ADMIN, plan, in_time()) as table:
        assert not isinstance(await table.extent(), NoEstimate)
        for seed in range(12):
            sample = await table.read(Draw(0.1, seed))
            assert isinstance(sample, BlockSums)
            by_hand = await connection.fetchval(_BY_HAND, sample.blocks, float(seed), 10.0)
            assert sample.drawn == by_hand
            assert sample.groups[0].blocks <= 0.7 * sample.drawn  # half of the table is empty by now
    full = plan_of(Query("events", ("events",)))
    async with PgSamples(own).table(PoolName.ADMIN, full, in_time()) as table:
        await table.extent()
        sample = await table.read(Draw(0.1, 5))
        assert isinstance(sample, BlockSums)
        assert (
            0 <= sample.drawn - sample.groups[0].blocks <= 2
        )  # blocks at the end that were made and not yet filled


_BY_HAND = """
SELECT count(*) FROM generate_series(0, $1::bigint - 1) AS b
 WHERE (hashoidvector((b || ' ' || (hashfloat8($2)::bigint & 4294967295))::oidvector)::bigint & 4294967295)
       < round(4294967296 * $3::float4::float8 / 100)
"""


@pytest.mark.parametrize(
    ("query", "dataset", "reason"),
    [
        (uniform("revenue"), events("few"), NoEstimate.EXACT_CHEAPER),
        (uniform("revenue"), events("nothing"), NoEstimate.EXACT_CHEAPER),
        (uniform("revenue"), events("seen"), NoEstimate.SOURCE),
        (uniform("revenue"), events("missing"), NoEstimate.SOURCE),
        (Query("events", ("events",), ("note",)), events(), NoEstimate.GROUPS),
        (Query("events", ("rare",)), events(), NoEstimate.TOO_THIN),
        (Query("events", ("events",), filter=Condition("kind", Operator.EQ, (77,))), events(), NoEstimate.TOO_THIN),
        (Query("events", ("balance",), filter=KIND), events(), NoEstimate.TOO_WIDE),  # or all of it costs as much
        (clustered("pieces", count=1), events(), NoEstimate.TOO_THIN),
    ],
)  # fmt: skip
async def test_what_cannot_be_told_is_refused(
    own: PgStore, query: Query, dataset: Dataset, reason: NoEstimate
) -> None:
    numbers = seeds()
    found = [await estimate(own, plan_of(query, dataset), numbers) for _ in range(2)]
    told = {each if isinstance(each, NoEstimate) else None for each in found}
    assert told <= ({reason, NoEstimate.EXACT_CHEAPER} if reason is NoEstimate.TOO_WIDE else {reason})


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


def _swapped(found: tuple[int, bytes], encoding: ResultFormat) -> tuple[int, ResultFormat, bytes]:
    return found[0], encoding, found[1]


def rung_of(store: PgStore) -> Estimated:
    numbers = seeds()
    aggregator = Inline()
    return Estimated(PgSamples(store), aggregator, lambda _: nullcontext(), CLOCK, lambda: next(numbers))  # type: ignore[arg-type] # of the aggregator only this is used


def group_of(
    plan: Plan, policy: AnswerPolicy = ESTIMATES, consistency: Consistency = Consistency.ANY
) -> Group:
    classified = Classifier().classify(Subject(RequestKind.DASHBOARD, plan.fingerprint), 0.0)
    question = Question("", plan, policy, ResultFormat.COLUMNS, classified)
    context = CallContext("r", ADA, in_time(), START)
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


async def test_an_answer_says_what_it_is_worth(own: PgStore) -> None:
    query = replace(
        uniform("events", "revenue", "mean_amount"), dimensions=("region",), order=(OrderKey("events", True),)
    )
    answer = await ask(own, query)
    assert isinstance(answer, Answer)
    exact = await truth(own, plan_of(query))
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


async def test_a_bucket_that_the_sample_missed_is_null_and_never_zero(own: PgStore) -> None:
    week = replace(WEEKS, range=days(0, DAYS + 14).range, gap_fill=True)
    answer = await ask(own, Query("events", ("pieces",), time=week))
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
    own: PgStore, query: Query, verdict: Verdict, code: NoEstimate
) -> None:
    step = await ask(own, query)
    assert isinstance(step, LadderStep)
    assert (step.verdict, step.codes) == (verdict, (code.value,))


async def test_nobody_waits_for_a_lane_that_stays_taken(own: PgStore) -> None:
    rung, group = rung_of(own), group_of(plan_of(uniform("events")))
    async with rung._place(in_time()) as free:  # the lane is taken for as long as the test likes
        assert free
        soon = Deadline.after(0.2, CLOCK.monotonic())
        step = await rung.answer(group.questions[0], group, soon)
    assert isinstance(step, LadderStep)
    assert (step.verdict, step.codes) == (Verdict.REFUSED, (NoEstimate.BUSY.value,))
    assert LINE > 0


async def test_a_deadline_ends_the_statement(
    own: PgStore, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    group = group_of(plan_of(uniform("events")))
    step = await rung_of(own).answer(group.questions[0], group, Deadline(CLOCK.monotonic()))
    assert isinstance(step, LadderStep)
    assert step.verdict is Verdict.TIMED_OUT
    with pytest.raises(BrokerError) as caught:
        await estimate(
            own, plan_of(uniform("events"), events("few", policies=[_needing("nothing")])), seeds()
        )
    assert caught.value.reason is ErrorReason.PERMISSION_DENIED
    assert await Watcher(connection).nothing_runs()


def _needing(attribute: str) -> RowPolicy:
    return RowPolicy("needs", f"events.note = {{attributes.{attribute}}}", ("events",))
