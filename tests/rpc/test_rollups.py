"""The methods of AdminService over rollups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest

from broker.domain.answer import Interval
from broker.domain.principal import Principal
from broker.domain.rollup import ALWAYS, FAR_FUTURE, Span
from broker.domain.work import RollupBuildWork, RollupRefreshWork
from broker.ports.rollups import Examined
from broker.rollups.service import RollupService
from querybroker.v1 import admin_service_pb2 as pb
from querybroker.v1 import answer_pb2, query_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.rpc.fake_rollups import DAY, FakeRollups
from tests.rpc.fakes import NOON
from tests.rpc.raw import detail, reason, status
from tests.rpc.serving import Serving, serving

if TYPE_CHECKING:  # a class of the type hints alone
    from querybroker.v1.admin_service_pb2_grpc import AdminServiceAsyncStub

DAILY = "datasets/flights/rollups/daily"
BY_DAY = "datasets/flights/rollups/by_day"
METHODS = {
    "ListRollups": pb.ListRollupsRequest(),
    "BuildRollup": pb.BuildRollupRequest(name=DAILY),
    "RefreshRollup": pb.RefreshRollupRequest(name=DAILY),
    "VerifyRollup": pb.VerifyRollupRequest(name=DAILY),
    "ReleaseQuarantine": pb.ReleaseQuarantineRequest(name=BY_DAY),
    "DropRollup": pb.DropRollupRequest(name=DAILY),
}


@dataclass
class Operated:
    """A server over rollups that the test knows."""

    serving: Serving
    rollups: FakeRollups

    @property
    def stub(self) -> AdminServiceAsyncStub:
        return AdminServiceStub(self.serving.channel)


def service(rollups: FakeRollups) -> RollupService:
    return RollupService(rollups.datasets, rollups, rollups.examine, lambda rollup: len(rollup.name))


@pytest.fixture
async def operated() -> AsyncIterator[Operated]:
    rollups = FakeRollups()
    async with serving(rollups=service(rollups)) as running:
        yield Operated(running, rollups)


async def test_rollups_come_in_pages_by_name(operated: Operated) -> None:
    first = await operated.stub.ListRollups(pb.ListRollupsRequest(page_size=2))
    second = await operated.stub.ListRollups(pb.ListRollupsRequest(page_token=first.next_page_token))
    assert [r.name for r in first.rollups] == [BY_DAY, DAILY]
    assert [r.name for r in second.rollups] == ["datasets/planes/rollups/all"]
    assert second.next_page_token == ""


async def test_those_of_one_dataset_are_listed(operated: Operated) -> None:
    found = await operated.stub.ListRollups(pb.ListRollupsRequest(dataset="datasets/planes"))
    assert [r.name for r in found.rollups] == ["datasets/planes/rollups/all"]
    assert not (await operated.stub.ListRollups(pb.ListRollupsRequest(dataset="datasets/weather"))).rollups
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await operated.stub.ListRollups(pb.ListRollupsRequest(dataset="datasets/nope"))
    assert reason(status(caught.value)) == "DATASET_NOT_FOUND"


async def test_a_rollup_tells_where_it_stands(operated: Operated) -> None:
    by_day, daily = (
        await operated.stub.ListRollups(pb.ListRollupsRequest(dataset="datasets/flights"))
    ).rollups
    assert daily.state == pb.ROLLUP_STATE_ACTIVE
    assert [*daily.dimensions, *daily.measures] == ["carrier", "flights"]
    assert daily.base_grain.seconds == 86_400
    assert daily.grains == [query_pb2.TIME_GRAIN_DAY, query_pb2.TIME_GRAIN_MONTH]
    assert (daily.time_dimension, daily.time_zone) == ("day", "UTC")
    assert daily.partition_grain == query_pb2.TIME_GRAIN_MONTH
    assert (daily.row_count, daily.byte_count, daily.hit_count) == (10, 1_000, 5)
    assert (daily.storage, daily.tracking) == (pb.ROLLUP_STORAGE_SEGMENTS, pb.ROLLUP_TRACKING_TRIGGERS)
    built, absent = daily.partitions
    assert (built.state, built.version, built.row_count) == (pb.PARTITION_STATE_VALID, 3, 10)
    assert built.dirty_bucket_count == 3, "a day, and two of which the second has changed in a part"
    assert (built.interval.start_time.seconds, built.interval.end_time.seconds) == (0, 31 * 86_400)
    assert absent.state == pb.PARTITION_STATE_ABSENT
    assert (by_day.state, by_day.state_message) == (pb.ROLLUP_STATE_QUARANTINED, "It differed.")
    assert (by_day.storage, by_day.tracking) == (pb.ROLLUP_STORAGE_TABLE, pb.ROLLUP_TRACKING_APPEND_ONLY)
    assert [p.state for p in by_day.partitions] == [pb.PARTITION_STATE_SEALED]


async def test_building_and_refreshing_are_jobs(operated: Operated) -> None:
    interval = answer_pb2.TimeInterval(start_time=Timestamp(seconds=86_400))
    built = (await operated.stub.BuildRollup(pb.BuildRollupRequest(name=DAILY, interval=interval))).job
    refreshed = (await operated.stub.RefreshRollup(pb.RefreshRollupRequest(name=DAILY))).job
    assert built.name != refreshed.name
    first, second = (ask.work for ask in operated.serving.jobs.asks)
    assert isinstance(first, RollupBuildWork)
    assert (first.dataset, first.rollup) == ("flights", "daily")
    assert first.interval == Interval(NOON.replace(1970, 1, 2, 0), None)
    assert second == RollupRefreshWork("flights", "daily")


async def test_a_rollup_that_agrees_is_noted_as_verified(operated: Operated) -> None:
    found = await operated.stub.VerifyRollup(pb.VerifyRollupRequest(name=DAILY))
    assert (found.compared_bucket_count, found.mismatched_bucket_count) == (59, 0)
    assert found.rollup.state == pb.ROLLUP_STATE_ACTIVE
    assert found.rollup.verify_time.ToDatetime(NOON.tzinfo) == NOON + timedelta(days=1)
    assert operated.rollups.spans == [ALWAYS]


async def test_a_rollup_that_differs_is_quarantined(operated: Operated) -> None:
    spans = tuple(Span(2 * n * DAY, (2 * n + 1) * DAY) for n in range(120))
    operated.rollups.examined = Examined(240, 120, spans, "flights of AA: 3, not 2")
    interval = answer_pb2.TimeInterval(start_time=Timestamp(seconds=86_400))
    found = await operated.stub.VerifyRollup(pb.VerifyRollupRequest(name=DAILY, interval=interval))
    assert (found.compared_bucket_count, found.mismatched_bucket_count) == (240, 120)
    assert len(found.mismatches) == 100
    assert found.mismatches[1].start_time.seconds == 2 * 86_400
    assert found.rollup.state == pb.ROLLUP_STATE_QUARANTINED
    assert "flights of AA: 3, not 2" in found.rollup.state_message
    assert operated.rollups.spans == [Span(DAY, FAR_FUTURE)]


async def test_a_rollup_that_may_differ_goes_on_answering(operated: Operated) -> None:
    operated.rollups.examined = Examined(59, 1, (Span(0, DAY),), "one", exact=False)
    found = await operated.stub.VerifyRollup(pb.VerifyRollupRequest(name=DAILY))
    assert found.mismatched_bucket_count == 1
    assert found.rollup.state == pb.ROLLUP_STATE_ACTIVE


async def test_nothing_compared_is_nothing_verified(operated: Operated) -> None:
    operated.rollups.examined = Examined()
    found = await operated.stub.VerifyRollup(pb.VerifyRollupRequest(name=DAILY))
    assert found.rollup.verify_time.ToDatetime(NOON.tzinfo) == NOON


async def test_a_quarantine_is_lifted_once(operated: Operated) -> None:
    found = await operated.stub.ReleaseQuarantine(pb.ReleaseQuarantineRequest(name=BY_DAY))
    assert (found.rollup.state, found.rollup.state_message) == (pb.ROLLUP_STATE_ACTIVE, "")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await operated.stub.ReleaseQuarantine(pb.ReleaseQuarantineRequest(name=BY_DAY))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(status(caught.value)) == "ROLLUP_STATE"


async def test_a_rollup_is_dropped_with_its_triggers_or_without(operated: Operated) -> None:
    await operated.stub.DropRollup(pb.DropRollupRequest(name=DAILY))
    await operated.stub.DropRollup(pb.DropRollupRequest(name=BY_DAY, keep_triggers=True))
    assert operated.rollups.dropped == [("daily", False), ("by_day", True)]


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m not in ("ListRollups", "BuildRollup", "RefreshRollup")]
)
async def test_an_unknown_rollup_is_not_found(operated: Operated, method: str) -> None:
    request = type(METHODS[method])(name="datasets/flights/rollups/nope")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(operated.stub, method)(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason(status(caught.value)) == "ROLLUP_NOT_FOUND"


@pytest.mark.parametrize("method", [method for method in METHODS if method != "ListRollups"])
async def test_what_is_wrong_with_a_request_is_named(operated: Operated, method: str) -> None:
    request = type(METHODS[method])(name="rollups/daily")
    fields = {"name"}
    if "interval" in request.DESCRIPTOR.fields_by_name:
        interval = answer_pb2.TimeInterval(start_time=Timestamp(seconds=5), end_time=Timestamp(seconds=5))
        request = type(METHODS[method])(name="rollups/daily", interval=interval)
        fields.add("interval.end_time")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(operated.stub, method)(request)
    found = detail(status(caught.value), BadRequest)
    assert found is not None
    assert {violation.field for violation in found.field_violations} == fields


@pytest.mark.parametrize("method", METHODS)
async def test_operators_only(method: str) -> None:
    asker = Principal("dashboard", "default", frozenset({"dataset:flights"}))
    async with serving(rollups=service(FakeRollups()), anonymous=asker) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(AdminServiceStub(running.channel), method)(METHODS[method])
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert running.jobs.asks == []
