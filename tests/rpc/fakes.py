"""An application without a database, whose faults the tests choose, behind the real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from broker.domain.answer import Answer, AnswerKind, AnswerStatus, Batch, Cost, CostClass, Exactness, Table
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.request import (
    Basis,
    CallContext,
    Classification,
    DashboardAsk,
    DashboardOutcome,
    ExplainAsk,
    Explanation,
    ExploreAsk,
    ExploreEvent,
    ExploreHeader,
    PanelOutcome,
)
from broker.domain.values import Column, ColumnRole, DataType, ResultFormat
from broker.transport.services import Repeat
from querybroker.v1 import answer_pb2

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = "qb_" + "5" * 48
COUNT = Column("flights", DataType.INT64, ColumnRole.MEASURE)
CARRIER = Column("carrier", DataType.STRING, ColumnRole.DIMENSION)


def status(kind: AnswerKind = AnswerKind.LIVE, **changes: object) -> AnswerStatus:
    """The status of an answer."""
    plain = AnswerStatus(kind, Exactness.EXACT, NOON, staleness=0.25, pool="dashboard")
    return replace(plain, **changes)  # type: ignore[arg-type] # a test names fields of the dataclass


def encoded_table(count: int = 3) -> bytes:
    """A table of one column of integers, encoded."""
    values = answer_pb2.Int64Values(values=range(count))
    return answer_pb2.Table(
        schema=[answer_pb2.ColumnSchema(name="flights", type=answer_pb2.DATA_TYPE_INT64)],
        row_count=count,
        columns=answer_pb2.ColumnBatch(columns=[answer_pb2.Column(int64_values=values)]),
    ).SerializeToString()


def answer(count: int = 3, kind: AnswerKind = AnswerKind.LIVE, **changes: object) -> Answer:
    """An answer of one column of integers."""
    table = Table((COUNT,), count, ResultFormat.COLUMNS, encoded_table(count))
    return Answer(table, status(kind, **changes))


async def dashboard(_context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
    """Answers every panel."""
    return DashboardOutcome(tuple(PanelOutcome(p.panel_id, answer()) for p in ask.panels), NOON)


async def explore(_context: CallContext, _ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
    """Two batches of two rows."""
    yield ExploreHeader((COUNT,), NOON, CostClass.EXPLORATION, Cost(duration_p50=0.5, row_count=4))
    for first in (0, 2):
        values = answer_pb2.Int64Values(values=(first, first + 1))
        column = answer_pb2.Column(int64_values=values)
        batch = b"\x10\x02" + _field(3, answer_pb2.ColumnBatch(columns=[column]).SerializeToString())
        yield Batch(first, 2, batch)
    yield status(AnswerKind.CACHE_STALE, degraded=False)


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


def explanation() -> Explanation:
    """An explanation."""
    return Explanation(
        columns=(CARRIER, COUNT),
        classification=Classification(CostClass.DASHBOARD, PoolName.DASHBOARD, Basis.HISTORY, 0.9, 12),
        predicted=Cost(0.1, 0.2, 16),
        expected_kind=AnswerKind.LIVE,
        expected_exactness=Exactness.EXACT,
        fingerprint="f" * 32,
        statements=("SELECT 1",),
    )


DATASET = Dataset(
    name="flights",
    table="public.flights",
    dimensions={
        "carrier": Dimension("carrier", "{flights}.carrier", DataType.STRING, ("flights",)),
        "day": Dimension("day", "{flights}.day", DataType.DATE, ("flights",), time=True),
    },
    measures={"flights": Measure("flights", MeasureKind.COUNT)},
    default_time="day",
    title="Flights",
)


@dataclass
class FakeQueries:
    """A QueryApp that does what the test says."""

    on_dashboard: Callable[[CallContext, DashboardAsk], Awaitable[DashboardOutcome]] = dashboard
    on_explore: Callable[[CallContext, ExploreAsk], AsyncGenerator[ExploreEvent, None]] = explore
    on_again: Callable[[Sequence[object]], Repeat | None] = lambda _tokens: None
    contexts: list[CallContext] = field(default_factory=list)
    asks: list[object] = field(default_factory=list)

    def again(self, tokens: Sequence[object]) -> Repeat | None:
        return self.on_again(tokens)

    async def dashboard(self, context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        self._note(context, ask)
        return await self.on_dashboard(context, ask)

    def explore(self, context: CallContext, ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        self._note(context, ask)
        return self.on_explore(context, ask)

    async def explain(self, context: CallContext, ask: ExplainAsk) -> Explanation:
        self._note(context, ask)
        return explanation()

    def _note(self, context: CallContext, ask: object) -> None:
        self.contexts.append(context)
        self.asks.append(ask)


@dataclass
class FakeCatalog:
    """A CatalogApp with many datasets."""

    names: Sequence[str] = ("airports", "flights", "planes", "weather")

    def datasets(self, principal: Principal) -> Sequence[Dataset]:
        return [replace(DATASET, name=name) for name in self.names]

    def dataset(self, name: str, principal: Principal) -> Dataset:
        if name not in self.names:
            text = f"There is no dataset {name!r}."
            raise BrokerError(ErrorReason.DATASET_NOT_FOUND, text, resource=f"datasets/{name}")
        return replace(DATASET, name=name)
