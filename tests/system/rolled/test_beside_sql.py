"""Answers from rollups beside SQL that somebody wrote by hand, in one snapshot, while rows are written."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import yaml

from broker.adapters.pg_snapshot import PgSnapshot
from broker.adapters.pg_store import PgStore
from broker.aggregation.executor import WorkerPools
from broker.app.database import database
from broker.app.process import process
from broker.app.rollup_options import mirror_options
from broker.app.rollups import open_rollups
from broker.config.loader import load
from broker.domain.answer import AnswerKind, Cost, CostClass
from broker.domain.deadline import Deadline
from broker.domain.model import Model
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.request import Basis, Classification
from broker.domain.terms import AnswerPolicy, Consistency, RollupMode
from broker.domain.values import ResultFormat
from broker.pipeline.rolled import Rolled
from broker.pipeline.routes import Router
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Question
from broker.pipeline.status import Sources
from broker.policy.admission.values import Quantiles
from broker.policy.classify import Classified
from broker.policy.resolve import resolve_query
from broker.rollups.mirror import Mirror
from broker.runtime.clock import SystemClock
from broker.transport.decode_query import decode_query
from querybroker.result import Batch
from querybroker.v1 import answer_pb2
from tests.support.pg import Connection, run_sync
from tests.system.rolled.place import HERE, Asking, Place, read_questions

POOL = PoolName.EXPLORATION
_UNCLASSIFIED = Classified(
    Classification(CostClass.EXPLORATION, POOL, Basis.REQUEST, 0.0, 0), Cost(duration_p50=0.0), Quantiles()
)
LATE = """
INSERT INTO sales SELECT 50000 + i, timestamptz '2024-01-20T05:00:00Z' + i * interval '13 hours', '2024-02-20',
  'beta', 'north', 'globex', true, 1, 0.10, i, 99.99, i FROM generate_series(1, 90) AS i;
DELETE FROM sales WHERE id BETWEEN 100 AND 103;
"""
LATER = """
INSERT INTO sales SELECT 60000 + i, timestamptz '2024-01-07T05:00:00Z' + i * interval '19 hours', '2024-02-20',
  CASE WHEN i % 2 = 0 THEN 'alpha' ELSE 'gamma' END, CASE WHEN i % 3 = 0 THEN 'east' ELSE 'north' END, 'acme', true, 1,
  0.10, i, 5000.01 + i, i FROM generate_series(1, 100) AS i;
UPDATE sales SET at = at - interval '3 days' WHERE id BETWEEN 200 AND 210;
"""


@pytest.fixture(scope="module")
def changed(place: Place) -> Iterator[Place]:
    """Some rows are newer than the rollups. Afterwards all is built, for those who come after."""
    run_sync(place.execute(LATE))
    yield place
    run_sync(place.refreshed("sales", "families", "mine", "listed"))


@dataclass(frozen=True, slots=True)
class Reader:
    """What answers from rollups, in this process."""

    model: Model
    store: PgStore
    rolled: Rolled
    workers: WorkerPools
    deadline: Deadline

    async def answer(
        self, snapshot: PgSnapshot, asking: Asking
    ) -> tuple[AnswerKind, list[tuple[object, ...]]]:
        """Kind and rows of an answer, with rollups required."""
        query = decode_query(asking.query, "query", [])
        dataset = self.model.datasets[query.dataset]
        plan = resolve_query(query, dataset, Principal("tester", "default"), datetime.now(UTC))
        policy = AnswerPolicy(rollup=RollupMode.REQUIRE)
        route = Router(self.model).route(plan, policy, Consistency.SNAPSHOT, 1.0)
        question = Question("", plan, policy, ResultFormat.COLUMNS, _UNCLASSIFIED, route=route)
        reading = await self.rolled.read(snapshot, question, Seen(snapshot), self.deadline)
        sources = Sources(snapshot.as_of, None, reading.covers, reading.coverage)
        made = await self.workers.table(
            POOL, reading.results, reading.finish, ResultFormat.COLUMNS, self.deadline
        )
        table = answer_pb2.Table.FromString(made.encoded)
        return sources.kind, Batch(table.schema, table.row_count, table.columns, b"").rows()


@asynccontextmanager
async def reader(place: Place) -> AsyncIterator[Reader]:
    """The parts, open."""
    overrides = {"database.dsn": place.dsn, "rollups.mirror_dir": str(place.home / "mirror")}
    loaded = load(place.config, {}, overrides)
    limits = replace(loaded.settings.pools[POOL], workers=1, connections=2)
    settings = replace(loaded.settings, pools={**loaded.settings.pools, POOL: limits})
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(process("test", replace(settings.telemetry, prometheus_port=0)))
        data = await stack.enter_async_context(database(settings, (POOL,), own))
        store = await stack.enter_async_context(open_rollups(settings, loaded.model, own.clock))
        workers = WorkerPools({POOL: limits}, own.clock, own.telemetry)
        stack.push_async_callback(workers.close)
        await workers.start()
        mirror = Mirror(mirror_options(settings), store, own.clock, own.telemetry)
        stack.push_async_callback(mirror.close)
        await mirror.open()
        deadline = Deadline.after(60, SystemClock().monotonic())
        yield Reader(loaded.model, data.store, Rolled(mirror), workers, deadline)


async def test_rollups_and_sql_by_hand_agree_in_a_snapshot(changed: Place, beside: Connection) -> None:
    questions = read_questions("same.yaml")
    statements: dict[str, str] = yaml.safe_load((HERE / "beside.yaml").read_text())
    assert len(statements) >= 10
    wrong: list[str] = []
    async with reader(changed) as own, own.store.snapshot(POOL, own.deadline) as snapshot:
        await beside.execute(LATER)  # which the snapshot does not see, and nobody who reads in it
        for name, sql in statements.items():
            kind, rows = await own.answer(snapshot, questions[name])
            expected = [tuple(row) for row in await snapshot.lease.connection.fetch(sql)]
            now = [tuple(row) for row in await beside.fetch(sql)]
            assert not alike(expected, now), f"{name} is not about what was written since"
            if not alike(rows, expected):
                wrong.append(f"{name}: {rows[:3]}, not {expected[:3]}")
            if kind is not AnswerKind.HYBRID:
                wrong.append(f"{name} is {kind}")
    assert not wrong, "\n".join(wrong)


def alike(left: list[tuple[object, ...]], right: list[tuple[object, ...]]) -> bool:
    """Whether rows are equal; doubles but for the order of additions."""
    return len(left) == len(right) and all(
        len(one) == len(other) and all(map(same, one, other)) for one, other in zip(left, right, strict=True)
    )


def same(one: object, other: object) -> bool:
    """Whether two values are equal."""
    if isinstance(one, float) and isinstance(other, float | Decimal):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other
