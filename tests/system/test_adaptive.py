"""A broker whose limit adapts hears its database and tells what it thinks of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.request import urlopen

import grpc.aio
import pytest

from querybroker.v1 import admin_service_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.conftest import FreshDatabase
from tests.support.eventually import eventually
from tests.support.server import running_broker
from tests.system.secured import free_port


def scrape(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        return str(page.read(), "utf-8")


@pytest.mark.parametrize("mode", ["adaptive", "shadow"])
async def test_a_limit_that_is_not_static(
    mode: str, flights_dsn: str, fresh_database: FreshDatabase, home: Path
) -> None:
    port = free_port()
    overrides = {
        "jobs.dsn": await fresh_database(),
        "telemetry.prometheus_port": port,
        "database.limit.mode": mode,
        "database.limit.seats": 6,
    }
    with running_broker(flights_dsn, home, overrides=overrides) as broker:
        async with grpc.aio.insecure_channel(broker.address) as channel:
            stub = AdminServiceStub(channel)

            async def heard() -> bool:
                return "querybroker_backend_sessions" in await asyncio.to_thread(scrape, port)

            await eventually(heard, "sessions are reported")
            state = (await stub.GetState(admin_service_pb2.GetStateRequest(), timeout=10)).state
    (backend,) = state.backends
    assert (backend.name, backend.limit, backend.relative_speed) == ("primary", 6, 1)
