"""Rollups are not trusted blindly: broken files, a useless mirror and wrong segments change no answer for long."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from broker.adapters.pg_rollups import PgRollups
from broker.demo.embedded import EmbeddedPostgres
from broker.domain.model import Dataset
from broker.domain.rollup import Segment, SegmentFile
from broker.ports.rollups import Built, RollupStatus
from querybroker.v1 import answer_pb2, policy_pb2, query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import Databases, run_sync
from tests.support.rollups import install, rollup_store
from tests.support.server import ROOT, RunningBroker, running_broker

MODEL = """
datasets:
  events:
    table: public.events
    primary_key: {id: int64}
    default_time: at
    dimensions:
      id: int64
      at: {type: timestamp, time: true}
      kind: string
    measures:
      events: {kind: count}
    rollups:
      by_kind: {dimensions: [kind], measures: [events]}
"""
EVENTS = """
CREATE TABLE events AS
  SELECT i::bigint AS id, timestamptz '2024-01-01Z' + i / 100 * interval '1 hour' AS at,
         'kind-' || i % 3 AS kind
  FROM generate_series(0, 218399) AS i;
ALTER TABLE events ADD PRIMARY KEY (id);
ANALYZE events;
"""
PER_KIND = 218_400 // 3
LIVE, ROLLUP = answer_pb2.ANSWER_KIND_LIVE, answer_pb2.ANSWER_KIND_ROLLUP


@dataclass(frozen=True)
class Place:
    """A database with a rollup of three months that is built, and the file that declares it."""

    dsn: str
    home: Path
    config: Path

    @property
    def mirror(self) -> Path:
        return self.home / "mirror"

    @asynccontextmanager
    async def serving(self, overrides: Mapping[str, object] | None = None) -> AsyncIterator[Asked]:
        """A broker that serves from it."""
        settings = {"rollups.mirror_dir": str(self.mirror), "rollups.verify_share": 0, **(overrides or {})}
        with running_broker(self.dsn, self.home, config=self.config, overrides=settings) as broker:
            async with grpc.aio.insecure_channel(broker.address) as channel:
                yield Asked(broker, QueryServiceStub(channel))

    @asynccontextmanager
    async def store(self) -> AsyncIterator[tuple[PgRollups, Dataset]]:
        async with rollup_store(self.dsn, self.config) as (store, model):
            yield store, model.datasets["events"]

    async def status(self) -> RollupStatus:
        async with self.store() as (store, dataset):
            return await store.status(dataset, dataset.rollups["by_kind"])

    def files(self) -> list[Path]:
        """The local files."""
        return sorted(self.mirror.glob("*/*.arrow"))


@dataclass(frozen=True)
class Asked:
    """A broker that can be asked how many events of each kind there are."""

    broker: RunningBroker
    stub: Any  # the asynchronous one

    async def __call__(
        self, mode: policy_pb2.RollupMode.ValueType = policy_pb2.ROLLUP_MODE_AUTO
    ) -> tuple[int, dict[str, int]]:
        """Kind of the answer, and the counts."""
        query = query_pb2.Query(dataset="events", measures=["events"], dimensions=["kind"])
        query.time.absolute.start_time.FromJsonString("2024-01-01T00:00:00Z")
        query.time.absolute.end_time.FromJsonString("2024-04-01T00:00:00Z")
        panel = query_service_pb2.Panel(query=query, policy=policy_pb2.AnswerPolicy(rollup_mode=mode))
        asked = query_service_pb2.DashboardRequest(panels=[panel])
        (answer,) = (await self.stub.Dashboard(asked, timeout=30)).panels
        kinds, counts = answer.table.columns.columns
        names = [kinds.string_values.dictionary[i] for i in kinds.string_values.indices]
        return answer.status.kind, dict(zip(names, counts.int64_values.values, strict=True))


async def rolled(asked: Asked) -> dict[str, int]:
    """The counts as soon as rollups give them: the first answers may be live, while nothing is known of their cost."""
    found: list[dict[str, int]] = []

    async def answered() -> bool:
        kind, counts = await asked()
        found.append(counts)
        return kind == ROLLUP

    await eventually(answered, "the rollup answers")
    return found[-1]


RIGHT = {f"kind-{i}": PER_KIND for i in range(3)}


@pytest.fixture(scope="module")
def template(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A database in which all is built, for copies, and the file of the model."""
    home = tmp_path_factory.mktemp("trusted")
    config, dsn = home / "model.yaml", run_sync(databases.create())
    config.write_text(MODEL)
    run_sync(_fill(dsn, config))
    command = [sys.executable, "-m", "broker", "rollup", "build", "events", "--direct", "-c", str(config)]
    command += ["--set", f"database.dsn={dsn}", "--set", f"rollups.mirror_dir={home / 'mirror'}"]
    subprocess.run(command, check=True, cwd=ROOT)
    return dsn, config


async def _fill(dsn: str, config: Path) -> None:
    owner = await asyncpg.connect(dsn)
    await owner.execute(EVENTS)
    await owner.close()
    await install(dsn, config)


@pytest.fixture
async def place(
    template: tuple[str, Path], postgres: EmbeddedPostgres, databases: Databases, tmp_path: Path
) -> AsyncIterator[Place]:
    dsn, config = template
    name = f"copy_{uuid.uuid4().hex}"
    owner = await asyncpg.connect(postgres.dsn())
    await owner.execute(f"CREATE DATABASE {name} TEMPLATE {dsn.rpartition('/')[2]}")
    await owner.close()
    yield Place(postgres.dsn(name), tmp_path, config)
    await databases.drop(postgres.dsn(name))


def changed(path: Path) -> None:
    """Writes other bytes into the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"\xa5" * 64
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("damage", [changed, cut, Path.unlink])
async def test_a_local_file_that_is_damaged_is_never_served_and_fetched_again(
    place: Place, damage: Callable[[Path], None]
) -> None:
    async with place.serving() as asked:
        assert await rolled(asked) == RIGHT
        before = {path.name: path.read_bytes() for path in place.files()}
        assert before
        for path in place.files():
            damage(path)
        kind, counts = await asked()
        assert counts == RIGHT
        assert kind in (LIVE, ROLLUP)
        assert await rolled(asked) == RIGHT
        for path in place.files():
            assert path.read_bytes() == before[path.name]


async def test_a_file_that_was_damaged_while_the_broker_was_away_is_found_out_at_the_start(
    place: Place,
) -> None:
    async with place.serving() as asked:
        assert await rolled(asked) == RIGHT
    for path in place.files():
        changed(path)
    async with place.serving() as asked:
        assert await rolled(asked) == RIGHT
    assert "Traceback" not in (place.home / "serve.log").read_text()


async def test_a_mirror_that_is_taken_away_is_made_again(place: Place) -> None:
    async with place.serving() as asked:
        assert await rolled(asked) == RIGHT
        shutil.rmtree(place.mirror)
        assert (await asked())[1] == RIGHT
        assert await rolled(asked) == RIGHT


async def test_without_a_directory_for_the_mirror_answers_are_live(place: Place) -> None:
    place.mirror.write_text("in the way")
    async with place.serving() as asked:
        for _ in range(3):
            assert await asked() == (LIVE, RIGHT)
    assert "rollups.mirror_dir" in (place.home / "serve.log").read_text()
    assert "Traceback" not in (place.home / "serve.log").read_text()


def with_one_more(data: bytes, file: SegmentFile) -> tuple[SegmentFile, bytes]:
    """The file with one event too many in its first row."""
    reader = pa.ipc.open_file(pa.py_buffer(data))
    batch = reader.get_batch(0)
    position = batch.schema.get_field_index("events.n")
    column = batch.column(position)
    more = pc.add(column, pa.array([1] + [0] * (len(column) - 1), column.type))
    arrays = [more if i == position else batch.column(i) for i in range(batch.num_columns)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=batch.schema))
    wrong = bytes(sink.getvalue().to_pybytes())
    return replace(file, byte_count=len(wrong), sha256=hashlib.sha256(wrong).hexdigest()), wrong


async def publish_wrong(place: Place) -> Segment:
    """Publishes a version of the second month with one event too many, as of now."""
    async with place.store() as (store, dataset):
        rollup = dataset.rollups["by_kind"]
        partition = (await store.status(dataset, rollup)).partitions[1]
        segment = partition.segment
        assert segment is not None
        wrong = [with_one_more(await store.fetch(segment, file), file) for file in segment.files]
        owner = await asyncpg.connect(place.dsn)
        snapshot = await owner.fetchval("SELECT pg_current_snapshot()::text")
        as_of = await owner.fetchval("SELECT now()")
        await owner.close()
        lease = await store.lease(rollup, partition.span, "test", 60)
        assert lease is not None
        files, data = (tuple(column) for column in zip(*wrong, strict=True))
        return await store.publish(lease, rollup, Built(snapshot, as_of, segment.row_count, files, data))


async def test_a_wrong_segment_is_found_out_and_answers_go_live(
    place: Place, record_property: Callable[[str, object], None]
) -> None:
    await publish_wrong(place)
    async with place.serving({"rollups.verify_share": 1}) as asked:
        counts = await rolled(asked)
        began = time.monotonic()
        assert sum(counts.values()) == 3 * PER_KIND + 1, "the wrong segment is in use"

        async def right() -> bool:
            return (await asked()) == (LIVE, RIGHT)

        await eventually(right, "answers are right again")
        record_property("detection_seconds", round(time.monotonic() - began, 3))
        status = await place.status()
        assert status.state == "quarantined"
        assert "1 of 3 groups" in status.message
    log = (place.home / "serve.log").read_text()
    assert "answers of rollups differ from the source; quarantined by_kind" in log
    assert "Traceback" not in log


async def test_a_right_rollup_is_noted_as_verified(place: Place) -> None:
    async with place.serving({"rollups.verify_share": 1}) as asked:
        assert await rolled(asked) == RIGHT

        async def noted() -> bool:
            return (await place.status()).verify_time is not None

        await eventually(noted, "it is noted")
        assert (await place.status()).state == "active"
