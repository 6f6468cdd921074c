"""Health, reflection, drain, credentials, addresses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from broker.domain.request import CallContext, DashboardAsk, DashboardOutcome
from broker.transport.options import Tls
from querybroker.v1 import admin_service_pb2, job_service_pb2, query_pb2, query_service_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.job_service_pb2_grpc import JobServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.rpc.fakes import KEY, dashboard
from tests.rpc.raw import read, reason, status, trailers
from tests.rpc.serving import KEYED, OPTIONS, Serving, serving
from tests.support.certificate import self_signed

QUERIES = "querybroker.v1.QueryService"
JOBS = "querybroker.v1.JobService"
QUERY = query_pb2.Query(dataset="flights", measures=["flights"])
REQUEST = query_service_pb2.DashboardRequest(panels=[query_service_pb2.Panel(query=QUERY)])
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health_stub(broker: Serving) -> Any:
    return HealthStub(broker.channel)


def reflection_stub(broker: Serving) -> Any:
    return ServerReflectionStub(broker.channel)  # type: ignore[arg-type] # its types know the synchronous channel only


class Store:
    """A dependency that can be away."""

    def __init__(self, *, away: bool) -> None:
        self.away = away

    async def check(self) -> str:
        if self.away:
            raise ConnectionError("the database is away")
        return "18"


async def health(broker: Serving, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    state: int = (await health_stub(broker).Check(request)).status
    return state


async def test_a_service_serves_while_its_check_passes() -> None:
    store = Store(away=True)
    async with serving(checks={QUERIES: store.check, JOBS: Store(away=True).check}) as broker:
        assert await health(broker, QUERIES) == NOT_SERVING
        assert await health(broker, "") == NOT_SERVING
        assert await health(broker, "liveness") == SERVING
        assert await health(broker, "querybroker.v1.CatalogService") == SERVING
        watch = health_stub(broker).Watch(health_pb2.HealthCheckRequest(service=QUERIES))
        seen = [(await read(watch)).status]
        store.away = False
        await broker.server._readiness.once()
        seen.append((await read(watch)).status)
        assert seen == [NOT_SERVING, SERVING]
        assert await health(broker, QUERIES) == SERVING
        assert await health(broker, JOBS) == NOT_SERVING
        assert await health(broker, "") == SERVING


async def test_a_check_that_hangs_is_a_check_that_fails() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    options = replace(OPTIONS, check_timeout=0.01)
    async with serving(options, checks={QUERIES: hang, JOBS: Store(away=False).check}) as broker:
        assert await health(broker, QUERIES) == NOT_SERVING
        assert await health(broker, JOBS) == SERVING


async def test_an_unknown_service_has_no_health(broker: Serving) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health(broker, "no.such.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = health_stub(broker).Watch(health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert (await read(watch)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_all_states_are_listed(broker: Serving) -> None:
    request = health_pb2.HealthListRequest()  # type: ignore[attr-defined] # newer than its types
    listed = await health_stub(broker).List(request)
    assert {QUERIES, JOBS, "", "liveness", "google.longrunning.Operations"} <= set(listed.statuses)
    assert {s.status for s in listed.statuses.values()} == {SERVING}


async def test_reflection_tells_the_services_and_their_files(broker: Serving) -> None:
    ask = reflection_pb2.ServerReflectionRequest
    requests = [ask(list_services=""), ask(file_containing_symbol=QUERIES)]
    call = reflection_stub(broker).ServerReflectionInfo(iter(requests))
    listed, file = [response async for response in call]
    names = {service.name for service in listed.list_services_response.service}
    assert {QUERIES, JOBS, "querybroker.v1.AdminService", "grpc.health.v1.Health"} <= names
    assert file.file_descriptor_response.file_descriptor_proto


async def test_reflection_can_be_switched_off() -> None:
    async with serving(replace(OPTIONS, reflection=False)) as broker:
        # Nothing is sent: no method reads it, and a request that is written while the refusal comes in ends the call
        # with an error of the library's own.
        call = reflection_stub(broker).ServerReflectionInfo(timeout=10)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_drain_lets_running_calls_finish_and_refuses_new_ones() -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        begun.set()
        await finish.wait()
        return await dashboard(context, ask)

    async with serving() as broker:
        broker.queries.on_dashboard = slow
        running = asyncio.ensure_future(QueryServiceStub(broker.channel).Dashboard(REQUEST))
        await begun.wait()
        watch = health_stub(broker).Watch(health_pb2.HealthCheckRequest())
        assert (await read(watch)).status == SERVING
        draining = asyncio.create_task(broker.server.drain())
        assert (await read(watch)).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        async with grpc.aio.insecure_channel(broker.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await QueryServiceStub(channel).Dashboard(REQUEST)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not draining.done()
        finish.set()
        assert len((await running).panels) == 1
        await draining


async def test_while_the_gate_is_closed_calls_are_told_to_go_elsewhere(broker: Serving) -> None:
    broker.server._gate.close()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await QueryServiceStub(broker.channel).Dashboard(REQUEST)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(status(caught.value)) == "DRAINING"
    assert int(str(trailers(caught.value)["grpc-retry-pushback-ms"])) >= 0
    state = await AdminServiceStub(broker.channel).GetState(admin_service_pb2.GetStateRequest())
    assert state.state.instance_id == "instance"


async def test_watches_end_when_the_server_drains(broker: Serving) -> None:
    stub = JobServiceStub(broker.channel)
    submit = job_service_pb2.SubmitJobRequest()
    submit.spec.export.query.CopyFrom(QUERY)
    name = (await stub.SubmitJob(submit)).job.name
    watch = stub.WatchJob(job_service_pb2.WatchJobRequest(name=name))
    assert (await read(watch)).job.name == name
    await broker.server.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(watch)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(status(caught.value)) == "DRAINING"


async def test_calls_that_outlive_the_grace_are_cancelled() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(_context: CallContext, _ask: DashboardAsk) -> DashboardOutcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("nobody sets the event")

    async with serving() as broker:
        broker.queries.on_dashboard = endless
        running = asyncio.ensure_future(QueryServiceStub(broker.channel).Dashboard(REQUEST))
        await begun.wait()
        await broker.server.drain(0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await ended.wait()


async def test_a_second_server_on_the_port_is_refused(broker: Serving) -> None:
    with pytest.raises(OSError, match="is another server running there"):
        async with serving(replace(OPTIONS, address=broker.address)):
            pass


async def test_anonymous_callers_may_be_refused_and_keys_name_the_caller() -> None:
    async with serving(anonymous=None) as broker:
        stub = QueryServiceStub(broker.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Dashboard(REQUEST)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "x-api-key" in (caught.value.details() or "")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Dashboard(REQUEST, metadata=(("x-api-key", f"{KEY}0"),))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await stub.Dashboard(REQUEST, metadata=(("x-api-key", KEY),))
        await stub.Dashboard(REQUEST, metadata=(("authorization", f"Bearer {KEY}"),))
        assert [context.principal for context in broker.queries.contexts] == [KEYED, KEYED]


async def test_admin_methods_need_their_grant() -> None:
    async with serving() as broker:
        stub = AdminServiceStub(broker.channel)
        for call in (
            stub.GetState(admin_service_pb2.GetStateRequest(), metadata=(("x-api-key", KEY),)),
            stub.Drain(admin_service_pb2.DrainRequest(), metadata=(("x-api-key", KEY),)),
            stub.ListRollups(admin_service_pb2.ListRollupsRequest(), metadata=(("x-api-key", KEY),)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert broker.admin.drains == []


async def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    async with serving(replace(OPTIONS, address=f"unix:{tmp_path}/broker.sock")) as broker:
        assert (await QueryServiceStub(broker.channel).Dashboard(REQUEST)).panels
        assert broker.queries.contexts[0].principal.name == "anonymous"


async def test_tls_serves_clients_that_trust_the_certificate(tmp_path: Path) -> None:
    certificate, key = await self_signed(tmp_path)
    tls = Tls(certificate.read_bytes(), key.read_bytes())
    async with serving(replace(OPTIONS, tls=tls)) as broker:
        trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
        port = broker.address.rpartition(":")[2]
        async with grpc.aio.secure_channel(f"localhost:{port}", trusted) as channel:
            assert (await QueryServiceStub(channel).Dashboard(REQUEST)).panels
        with pytest.raises(grpc.aio.AioRpcError):
            await QueryServiceStub(broker.channel).Dashboard(REQUEST)
