"""Several processes with certificates, on all addresses, and an endpoint for the metrics of each."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import grpc.aio

from querybroker.v1 import admin_service_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.support.certificate import self_signed
from tests.support.eventually import eventually
from tests.support.fleet_server import running_fleet
from tests.support.pg import Databases
from tests.system.conftest import MODEL

CHANNEL = (("grpc.use_local_subchannel_pool", 1),)


def free_ports() -> int:
    """The first of two ports that are free one after the other."""
    while True:
        with closing(socket.socket()) as one, closing(socket.socket()) as two:
            one.bind(("127.0.0.1", 0))
            try:
                two.bind(("127.0.0.1", one.getsockname()[1] + 1))
            except OSError:
                continue
            return int(one.getsockname()[1])


def scraped(address: str) -> str:
    with urlopen(f"http://{address}/metrics") as page:
        return str(page.read().decode())


async def test_each_serves_with_tls_and_has_metrics_of_its_own(databases: Databases, tmp_path: Path) -> None:
    certificate, key = await self_signed(tmp_path)
    config = tmp_path / "broker.yaml"
    config.write_text(MODEL)
    first = free_ports()
    overrides = {
        "server.host": "0.0.0.0",
        "server.tls.certificate": certificate,
        "server.tls.key": key,
        "telemetry.prometheus_port": first,
        "pools.dashboard.workers": 2,
        "pools.exploration.workers": 1,
    }
    dsn = await databases.create()
    with running_fleet(dsn, tmp_path, config, 2, overrides) as fleet:
        trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
        port = fleet.address.rpartition(":")[2]
        states: dict[str, admin_service_pb2.BrokerState] = {}

        async def both() -> bool:
            async with grpc.aio.secure_channel(f"localhost:{port}", trusted, options=CHANNEL) as channel:
                asked = AdminServiceStub(channel).GetState(admin_service_pb2.GetStateRequest(), timeout=10)
                state = (await asked).state
            states[state.instance_id] = state
            return len(states) == 2

        await eventually(both, "both serve with TLS")
        for state in states.values():
            assert [pool.worker_count for pool in state.pools if pool.worker_count] == [1, 1]
            # Without the tables of the fleet nothing is shared.
            assert not state.fleet or {member.instance_id for member in state.fleet} == {state.instance_id}
        assert fleet.metrics == (f"127.0.0.1:{first}", f"127.0.0.1:{first + 1}")
        pages = [await asyncio.to_thread(scraped, address) for address in fleet.metrics]
        instances = {
            name for name in states if any(f'service_instance_id="{name}"' in page for page in pages)
        }
        assert instances == set(states)
        log = fleet.log.read_text()
    assert log.count("Run `broker migrate`, or set `fleet.enabled: false`") == 2
