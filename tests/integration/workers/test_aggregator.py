"""The port ``Aggregator`` over real workers: tables, batches, spans, and the loop that the broker runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pyarrow as pa
import pytest
import uvloop
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from broker.aggregation import inline
from broker.aggregation.executor import WorkerPools
from broker.aggregation.tasks import BATCH_BYTES
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import CsvBlock, Rows
from broker.domain.pool import PoolLimits
from broker.domain.query import Grain, Query, TimeSelection
from broker.domain.values import Column, DataType, ResultFormat
from broker.telemetry.instruments import Telemetry
from querybroker.v1 import answer_pb2, query_service_pb2
from tests.integration.workers.conftest import POOL, Crew, SystemClock
from tests.unit.aggregation.facts import facts, plan
from tests.unit.aggregation.questions import WEEKS
from tests.unit.aggregation.source import results

COLUMNS = (Column("n", DataType.INT64), Column("s", DataType.STRING))


async def test_a_table_is_the_same_from_the_loop_and_from_a_worker(crew: Crew) -> None:
    query = Query("facts", ("rows", "real_sum", "avg_ratio"), ("name",))
    resolved = plan(query)
    scanned = results(resolved, facts(Random(1)), [0], csv=False)
    small = await crew.pools.table(POOL, scanned, resolved.finish, ResultFormat.COLUMNS, crew.deadline(60))
    assert inline.table(scanned, resolved.finish, ResultFormat.COLUMNS) == (small.row_count, small.encoded)
    blocks = results(resolved, facts(Random(1)), [0], csv=True)
    large = await crew.pools.table(POOL, blocks, resolved.finish, ResultFormat.COLUMNS, crew.deadline(60))
    assert large == small
    assert answer_pb2.Table.FromString(large.encoded).row_count == large.row_count > 0
    arrow = await crew.pools.table(POOL, scanned, resolved.finish, ResultFormat.ARROW, crew.deadline(60))
    read = pa.ipc.open_stream(answer_pb2.Table.FromString(arrow.encoded).arrow_ipc).read_all()
    assert read.num_rows == arrow.row_count == small.row_count


@pytest.mark.parametrize("encoding", ResultFormat)
async def test_batches_are_bounded_and_lie_end_to_end(crew: Crew, encoding: ResultFormat) -> None:
    query = Query("facts", ("rows",), ("name",))
    resolved = plan(query)
    finish = replace(resolved.finish, pushed_down=False)
    names = [f"{'x' * (i % 50) ** 2}{i:06}" for i in range(10_000)]
    lines = "".join(f"{name},1\n" for name in names).encode()
    (result,) = results(resolved, [], [0], csv=True)
    columns = (Column("k0", DataType.STRING), Column("rows.n", DataType.INT64))
    scanned = (replace(result, grouped=(CsvBlock(columns, lines),)),)
    batches = await crew.pools.batches(POOL, scanned, finish, encoding, crew.deadline(60))
    assert len(batches) > 3
    assert all(len(batch.encoded) <= 2 * BATCH_BYTES for batch in batches)
    found: list[str] = []
    for batch in batches:
        assert batch.first_row == len(found)
        message = query_service_pb2.RowBatch.FromString(batch.encoded)
        assert message.first_row == 0, "appended when batches are put in order"
        if encoding is ResultFormat.ARROW:
            found += pa.ipc.open_stream(message.arrow_ipc).read_all()["name"].to_pylist()
        else:
            strings = message.columns.columns[0].string_values
            found += [strings.dictionary[i] for i in strings.indices]
    assert found == sorted(names)


async def test_no_rows_are_no_batches(crew: Crew) -> None:
    resolved = plan(Query("facts", ("rows",), ("name",)))
    scanned = results(resolved, [], [0], csv=False)
    assert (
        await crew.pools.batches(POOL, scanned, resolved.finish, ResultFormat.ARROW, crew.deadline(60)) == ()
    )


async def test_a_block_of_sql_rows_is_a_batch_wherever_it_is_made(crew: Crew) -> None:
    deadline = crew.deadline(60)
    rows = Rows(COLUMNS, ((1, "a"), (None, None)))
    block = CsvBlock(COLUMNS, b"1,a\n,\n")
    small = await crew.pools.batch(POOL, rows, None, COLUMNS, ResultFormat.COLUMNS, deadline)
    large = await crew.pools.batch(POOL, block, None, COLUMNS, ResultFormat.COLUMNS, deadline)
    assert small == large
    assert small.row_count == 2


async def test_a_long_grid_reaches_the_workers_as_it_is(crew: Crew) -> None:
    minutes = plan(
        Query("facts", ("rows",), time=TimeSelection("at", Grain.MINUTE, "Europe/Berlin", WEEKS, True))
    )
    assert minutes.finish.grid is not None
    assert len(minutes.finish.grid.starts) > 10_000
    scanned = results(minutes, facts(Random(3)), [0], csv=True)
    table = await crew.pools.table(POOL, scanned, minutes.finish, ResultFormat.COLUMNS, crew.deadline(60))
    column = answer_pb2.Table.FromString(table.encoded).columns.columns[0]
    assert table.row_count == len(minutes.finish.grid.starts)
    starts = [round(start.timestamp()) * 1_000_000 for start in minutes.finish.grid.starts]
    assert list(column.timestamp_values.unix_micros) == starts


async def test_values_out_of_range_are_told_from_the_worker(crew: Crew) -> None:
    block = CsvBlock(COLUMNS, b"9223372036854775808,a\n")
    with pytest.raises(BrokerError) as raised:
        await crew.pools.batch(POOL, block, None, COLUMNS, ResultFormat.COLUMNS, crew.deadline(60))
    assert raised.value.reason is ErrorReason.STORE_REJECTED


async def test_a_task_is_a_span_with_the_workers_own_times() -> None:
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracers, NoOpMeterProvider())
    pools = WorkerPools({POOL: PoolLimits(1, 1, 1, 1)}, SystemClock(), telemetry)
    await pools.start()
    try:
        (pid,) = pools.pids(POOL)
        block = CsvBlock(COLUMNS, b"1,a\n2,b\n")
        with telemetry.span("request"):
            await pools.batch(POOL, block, None, COLUMNS, ResultFormat.COLUMNS, Crew.deadline(60))
    finally:
        await pools.close()
    worker, waiting, request = exporter.get_finished_spans()
    assert (worker.name, waiting.name) == ("querybroker.worker", "querybroker.aggregate")
    for inner, outer in ((worker, waiting), (waiting, request)):
        assert inner.parent is not None
        assert outer.context is not None
        assert inner.parent.span_id == outer.context.span_id
    assert worker.attributes is not None
    assert (worker.attributes["process.pid"], worker.attributes["querybroker.rows"]) == (pid, 2)
    times = [waiting.start_time, worker.start_time, worker.end_time, waiting.end_time]
    assert [t for t in times if t is not None] == sorted(t for t in times if t is not None)


def test_the_same_on_the_loop_of_the_broker() -> None:
    async def scenario() -> None:
        pools = WorkerPools({POOL: PoolLimits(1, 1, 1, 1)}, SystemClock(), Telemetry.off())
        await pools.start()
        try:
            block = CsvBlock(COLUMNS, b"1,a\n" * 300_000)
            batch = await pools.batch(POOL, block, None, COLUMNS, ResultFormat.ARROW, Crew.deadline(60))
            assert batch.row_count == 300_000
            with pytest.raises(BrokerError):
                await pools.call(POOL, "builtins:sum", (range(10**15),), Crew.deadline(0.05))
            assert await pools.call(POOL, "builtins:abs", (-1,), Crew.deadline(60)) == 1
        finally:
            await pools.close()

    uvloop.run(scenario())


@pytest.fixture(autouse=True)
def no_current_loop_is_left() -> Iterator[None]:
    yield
    asyncio.set_event_loop(None)
