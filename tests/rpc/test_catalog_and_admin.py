"""CatalogService and AdminService."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from broker.domain.errors import BrokerError
from broker.domain.terms import AnswerPolicy
from broker.transport.decode_request import decode_dashboard
from querybroker.v1 import admin_service_pb2 as admin
from querybroker.v1 import answer_pb2, query_service_pb2
from querybroker.v1 import catalog_service_pb2 as pb
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tests.rpc.raw import read, reason, status
from tests.rpc.serving import Serving


async def test_datasets_come_in_pages_by_name(broker: Serving) -> None:
    stub = CatalogServiceStub(broker.channel)
    first = await stub.ListDatasets(pb.ListDatasetsRequest(page_size=3))
    second = await stub.ListDatasets(pb.ListDatasetsRequest(page_token=first.next_page_token))
    names = [dataset.name for page in (first, second) for dataset in page.datasets]
    assert names == [f"datasets/{name}" for name in ("airports", "flights", "planes", "weather")]
    assert second.next_page_token == ""
    assert not first.datasets[0].measures


async def test_a_dataset_tells_its_members_and_a_query_to_begin_with(broker: Serving) -> None:
    stub = CatalogServiceStub(broker.channel)
    found = await stub.GetDataset(pb.GetDatasetRequest(name="datasets/flights"))
    assert [d.name for d in found.dataset.dimensions] == ["carrier", "day"]
    (measure,) = found.dataset.measures
    assert (measure.kind, measure.type) == (pb.MEASURE_KIND_COUNT, answer_pb2.DATA_TYPE_INT64)
    assert measure.mergeable
    assert measure.additive
    assert found.dataset.default_time_dimension == "day"
    panel = query_service_pb2.Panel(query=found.example)
    ask = decode_dashboard(query_service_pb2.DashboardRequest(panels=[panel]), AnswerPolicy())
    assert ask.panels[0].query.dimensions == ("carrier",)


async def test_a_dataset_that_does_not_exist_is_not_found(broker: Serving) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await CatalogServiceStub(broker.channel).GetDataset(pb.GetDatasetRequest(name="datasets/nope"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason(status(caught.value)) == "DATASET_NOT_FOUND"


async def test_the_state_is_told_once_and_again(broker: Serving) -> None:
    stub = AdminServiceStub(broker.channel)
    state = (await stub.GetState(admin.GetStateRequest())).state
    watch = stub.WatchState(admin.WatchStateRequest(interval=Duration(nanos=100_000_000)))
    events = [await read(watch), await read(watch)]
    watch.cancel()
    assert [event.state for event in events] == [state, state]
    assert state.version == "0.1.0"


async def test_drain_is_handed_on_with_its_grace(broker: Serving) -> None:
    stub = AdminServiceStub(broker.channel)
    response = await stub.Drain(admin.DrainRequest(grace=Duration(seconds=7)))
    await stub.Drain(admin.DrainRequest())
    assert response.state.draining
    assert broker.admin.drains == [7, None]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ListRollups", admin.ListRollupsRequest()),
        ("BuildRollup", admin.BuildRollupRequest(name="datasets/a/rollups/b")),
        ("RefreshRollup", admin.RefreshRollupRequest()),
        ("VerifyRollup", admin.VerifyRollupRequest()),
        ("ReleaseQuarantine", admin.ReleaseQuarantineRequest()),
        ("DropRollup", admin.DropRollupRequest()),
        ("InvalidateCache", admin.InvalidateCacheRequest()),
    ],
)
async def test_methods_of_absent_parts_say_so(broker: Serving, method: str, request_: object) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(AdminServiceStub(broker.channel), method)(request_)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert reason(status(caught.value)) == "NOT_OFFERED"
    assert method in (caught.value.details() or "")


def test_an_error_of_the_domain_is_raised_for_a_wrong_shape() -> None:
    with pytest.raises(BrokerError):
        decode_dashboard(query_service_pb2.DashboardRequest(), AnswerPolicy())
