"""Classes by cost over real gRPC: what is shown of them, what is offered as a job, and what a restart leaves of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from querybroker.v1 import answer_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.conftest import FreshDatabase
from tests.support.pg import prepare
from tests.support.server import running_broker
from tests.system.conftest import CHANNEL, MODEL, SCHEMA, dashboard, query

ASKED = query(measures=["total"], dimensions=["kind"])
EXPLORE = query_service_pb2.ExploreRequest(query=ASKED)


@pytest.fixture
async def dsn(fresh_database: FreshDatabase) -> str:
    found = await fresh_database()
    await prepare(found, SCHEMA)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "broker.yaml"
    path.write_text(MODEL)
    return path


class Caller:
    """Calls one broker."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=CHANNEL)
        self.stub = QueryServiceStub(self.channel)

    async def explore(self) -> list[query_service_pb2.ExploreResponse]:
        return [event async for event in self.stub.Explore(EXPLORE, timeout=30)]

    async def explained(self) -> query_service_pb2.Classification:
        request = query_service_pb2.ExplainRequest(query=ASKED)
        return (await self.stub.Explain(request, timeout=30)).classification


def factors(classification: query_service_pb2.Classification) -> Mapping[str, str]:
    return {factor.name: factor.effect for factor in classification.factors}


async def test_what_was_learned_outlives_a_restart(dsn: str, config: Path, tmp_path: Path) -> None:
    with running_broker(dsn, tmp_path / "first", config=config) as running:
        caller = Caller(running.address)
        first = await caller.explore()
        for _ in range(2):
            await caller.explore()
        known = await caller.explained()
        await caller.channel.close()
        assert running.stop() == 0
    header = first[0].header.classification
    assert header.basis == query_service_pb2.CLASSIFICATION_BASIS_PLAN, "the planner was asked about it"
    assert {"plan_model_seconds", "complexity", "caller_criticality"} <= set(factors(header))
    assert known.basis == query_service_pb2.CLASSIFICATION_BASIS_HISTORY
    assert known.sample_count == 3
    with running_broker(dsn, tmp_path / "second", config=config) as running:
        caller = Caller(running.address)
        again = await caller.explained()
        await caller.channel.close()
    assert again.basis == query_service_pb2.CLASSIFICATION_BASIS_HISTORY
    assert again.sample_count == 3


async def test_heavy_work_is_offered_as_a_job_or_moved(dsn: str, config: Path, tmp_path: Path) -> None:
    """With classes that end at once everything is heavy, once it is known."""
    overrides = {"server.classes.dashboard": "1ms", "server.classes.exploration": "2ms"}
    with running_broker(dsn, tmp_path / "home", config=config, overrides=overrides) as running:
        caller = Caller(running.address)
        panels = [(await caller.stub.Dashboard(dashboard(ASKED), timeout=30)).panels[0] for _ in range(4)]
        moved = panels[-1].status
        assert moved.cost_class == answer_pb2.COST_CLASS_EXPLORATION
        assert moved.pool == "exploration"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await caller.explore()
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "Submit it as a job" in (raised.value.details() or "")
        shown = await caller.explained()
        assert shown.cost_class == answer_pb2.COST_CLASS_JOB
        assert "exploration_limit_seconds" in factors(shown)
        await caller.channel.close()
