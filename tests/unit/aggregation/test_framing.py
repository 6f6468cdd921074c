"""Frames between processes: values arrive as they were, large bytes beside the pickle."""

from __future__ import annotations

import pickle
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.aggregation import framing
from broker.aggregation.framing import Encoded, Reply, Request, dump, load, receive, send
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import CsvBlock, HeldBlock, LocalFile, ScanResult
from broker.domain.query import AbsoluteRange, Grain, Query, TimeSelection
from broker.domain.rollup import Span, micros
from broker.domain.segment import BuiltFiles, SegmentBuild
from broker.domain.timegrid import build
from broker.domain.values import Column, DataType, ResultFormat
from tests.unit.aggregation.facts import START, plan
from tests.unit.aggregation.rolled import LEAVES, STORED, block

COLUMNS = (Column("a", DataType.INT64),)


def travelled(value: Request | Reply) -> object:
    parts = dump(value)
    return load(memoryview(b"".join(parts))[framing.HEAD.size :])


def test_a_request_arrives_as_it_was() -> None:
    finish = plan(Query("facts", ("rows", "name_first"), ("name",))).finish
    held = HeldBlock(b"x" * 1_000, ResultFormat.ARROW, COLUMNS, (("a", "k0"),), (), span=Span(1, 2), limit=3)
    blocks = (CsvBlock(COLUMNS, b"1\n" * 1_000), CsvBlock(COLUMNS, b""), held, replace(held, data=b""))
    request = Request("m:f", (ScanResult(blocks, {"m": blocks}), finish), "00-trace")
    assert travelled(request) == request


def test_large_bytes_are_not_pickled() -> None:
    data = b"x" * 1_000_000
    parts = dump(Reply(1, (Encoded(3, data),)))
    assert len(parts[2]) < 1_000
    assert parts[3].obj is data if isinstance(parts[3], memoryview) else parts[3] is data


def test_a_reply_brings_errors_of_the_domain() -> None:
    error = BrokerError(ErrorReason.STORE_REJECTED, "text", retry_after=2.0, metadata={"a": "b"})
    reply = travelled(Reply(1, error=error))
    assert isinstance(reply, Reply)
    assert reply.error is not None
    assert (reply.error.reason, reply.error.retry_after, reply.error.metadata) == (
        error.reason,
        2.0,
        {"a": "b"},
    )


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
)
@pytest.mark.parametrize("grain", [Grain.FIFTEEN_MINUTES, Grain.HOUR, Grain.DAY, Grain.WEEK])
def test_a_long_grid_is_built_again_and_is_the_same(
    zone: str, grain: Grain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "_LARGEST_PICKLED_GRID", 1)
    start = datetime(2011, 12, 20, 7, 5, tzinfo=UTC)
    grid = build(AbsoluteRange(start, start + timedelta(days=130, minutes=11)), grain, zone)
    reply = travelled(Reply(1, grid))
    assert isinstance(reply, Reply)
    assert reply.value == grid
    finish = plan(
        Query(
            "facts",
            ("rows",),
            time=TimeSelection("at", grain, zone, AbsoluteRange(START, START + timedelta(days=30))),
        )
    ).finish
    assert travelled(Request("m:f", (finish,))) == Request("m:f", (finish,))


def test_a_long_grid_is_not_pickled_whole() -> None:
    grid = build(AbsoluteRange(START, START + timedelta(days=30)), Grain.MINUTE, "UTC")
    assert len(dump(Reply(1, grid))[2]) < 1_000 < len(pickle.dumps(grid))


def test_frames_cross_a_socket_in_pieces() -> None:
    ours, theirs = socket.socketpair()
    value = Reply(1, tuple(Encoded(i, bytes([i]) * 700_000) for i in range(3)))

    def give() -> None:
        send(ours, value)
        send(ours, replace(value, pid=2))
        ours.close()

    with ours, theirs:
        sender = threading.Thread(target=give)
        sender.start()
        assert receive(theirs) == value
        assert receive(theirs) == replace(value, pid=2)
        assert receive(theirs) is None
        sender.join()


def test_blocks_of_files_and_partitions_arrive_as_they_were() -> None:
    scan = plan(Query("facts", ("rows",), ("name",))).main
    files = tuple(LocalFile(f"/x/{i}", Grain.DAY, "UTC", Span(i, i + 1), f"{i:064}") for i in range(500))
    span = Span(micros(START), micros(START) + 900_000_000)
    grid = build(AbsoluteRange(START, START + timedelta(minutes=15)), Grain.FIFTEEN_MINUTES, "UTC")
    partition = SegmentBuild(span, grid, STORED, LEAVES, (Grain.FIFTEEN_MINUTES,), base=b"x" * 1000)
    for value in (
        *(block(some, [Span(0, 500)], scan, LEAVES) for some in (files, files[:1], ())),
        partition,
        replace(partition, base="a/path"),
        BuiltFiles(2, data=(b"one", b"two")),
        BuiltFiles(2, rows=(b"one",)),
    ):
        assert travelled(Request("x", (value,))) == Request("x", (value,))
