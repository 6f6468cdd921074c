"""Every statement has a span that tells what it did, and no value of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_store import PgStore
from broker.domain.errors import BrokerError
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.query import Condition, Operator, Query
from broker.telemetry.instruments import Telemetry
from tests.integration.store.conftest import CLOCK, in_time, plan_of
from tests.support.datasets import flights

DATASET = flights()
BY_PLANE = Query(
    "flights",
    measures=("flights",),
    dimensions=("tailnum",),
    filter=Condition("carrier", Operator.EQ, ("a secret",)),
)


async def test_spans_of_statements(flights_dsn: str) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(provider, NoOpMeterProvider())
    pools = await PgPools.open(flights_dsn, {PoolName.DASHBOARD: PoolLimits(1, 1, 1, 1)}, telemetry=telemetry)
    store = PgStore(pools, CLOCK, telemetry=telemetry)
    with telemetry.span("panel") as parent:
        async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
            for query in (BY_PLANE, BY_PLANE, replace(BY_PLANE, limit=1)):
                await snapshot.read(plan_of(query, DATASET))
            async for _ in snapshot.stream(plan_of(BY_PLANE, DATASET)):
                pass
            wrong = Condition("dep_delay", Operator.EQ, (1 << 80,))
            with pytest.raises(BrokerError):
                await snapshot.read(plan_of(replace(BY_PLANE, filter=wrong, limit=1), DATASET))
    await pools.aclose()
    spans = [span for span in exporter.get_finished_spans() if span.name != "panel"]
    assert [span.name for span in spans] == [
        "COPY flights", "SELECT flights", "SELECT flights", "COPY flights", "SELECT flights",
    ]  # fmt: skip
    for span in spans:
        assert span.parent is not None
        assert span.parent.span_id == parent.get_span_context().span_id
        attributes = dict(span.attributes or {})
        assert attributes["db.client.connection.pool.name"] == "dashboard"
        assert attributes["db.collection.name"] == "flights"
        assert "secret" not in span.to_json()
    assert (spans[-1].attributes or {})["error.type"] == "INVALID_REQUEST"
    assert not spans[-1].events
