"""Rollups in the contract's form, where they have no ends or odd buckets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.domain.model import Dataset
from broker.domain.query import Grain
from broker.domain.rollup import ALWAYS, Rollup, Segment, Span, Storage, Tracking, micros
from broker.ports.rollups import PartitionStatus, RollupStatus
from broker.transport.encode_catalog import encode_dataset
from broker.transport.encode_rollup import encode_rollup
from querybroker.v1 import admin_service_pb2 as pb

ROLLUP = Rollup("r", "sales", "at", (), ("sales",), (Grain.HOUR,), "America/New_York")
MARCH = Span(micros(datetime(2024, 3, 1, 5, tzinfo=UTC)), micros(datetime(2024, 4, 1, 4, tzinfo=UTC)))


def encoded(rollup: Rollup, span: Span, dirty: tuple[Span, ...], state: str = "active") -> pb.Rollup:
    segment = Segment(1, span, 2, datetime(2024, 5, 1, tzinfo=UTC), 10, 100)
    status = RollupStatus(rollup, state, "", (PartitionStatus(span, segment, dirty),))
    return encode_rollup(status, 3)


def test_a_relation_without_ends() -> None:
    external = replace(ROLLUP, storage=Storage.EXTERNAL, tracking=Tracking.NONE)
    shown = encoded(external, ALWAYS, (ALWAYS,))
    (partition,) = shown.partitions
    assert not partition.interval.HasField("start_time")
    assert not partition.interval.HasField("end_time")
    assert partition.dirty_bucket_count == 1
    assert (shown.storage, shown.tracking) == (pb.ROLLUP_STORAGE_EXTERNAL, pb.ROLLUP_TRACKING_NONE)


@pytest.mark.parametrize(
    ("grain", "count"), [(Grain.MINUTE, 45), (Grain.FIFTEEN_MINUTES, 4), (Grain.HOUR, 2), (Grain.DAY, 1)]
)
def test_changed_buckets_are_counted_once(grain: Grain, count: int) -> None:
    start = micros(datetime(2024, 3, 10, 6, 50, tzinfo=UTC))  # the clocks change within the hour after
    minute = 60_000_000
    dirty = (Span(start, start + 30 * minute), Span(start + 20 * minute, start + 45 * minute))
    assert encoded(replace(ROLLUP, grains=(grain,)), MARCH, dirty).partitions[0].dirty_bucket_count == count


def test_changes_outside_of_the_partition_are_not_counted() -> None:
    assert encoded(ROLLUP, MARCH, (Span(0, MARCH.lo),)).partitions[0].dirty_bucket_count == 0
    assert encoded(ROLLUP, MARCH, (ALWAYS,)).partitions[0].dirty_bucket_count == 743, (
        "March has a day of 23 hours"
    )


@pytest.mark.parametrize(
    "state", ["declared", "installed", "building", "active", "quarantined", "mismatched"]
)
def test_every_state_is_in_the_contract(state: str) -> None:
    assert pb.RollupState.Name(encoded(ROLLUP, MARCH, (), state).state) == f"ROLLUP_STATE_{state.upper()}"


def test_a_dataset_names_its_rollups() -> None:
    dataset = Dataset("sales", "public.sales", {}, {}, rollups={"r": ROLLUP})
    assert list(encode_dataset(dataset, members=False).rollups) == ["r"]
