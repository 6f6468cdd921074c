"""Answers of random queries, over real gRPC and PostgreSQL, against an oracle computed by Polars from the CSV files.

Quick: 520 queries on a sample of 50,000 flights. Full: 10,000 queries on all flights, for an hour or so; most of the
time is the oracle's. Nine of ten queries are asked as panels of dashboards, the others as explorations, half of all in
Arrow. Which differences count as mismatches is said in ``tests/oracle/cells.py`` and ``tests/oracle/compare.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.progress import track

from broker.adapters.migrate import migrate
from broker.demo.flights import load_flights
from querybroker.v1 import query_service_pb2 as s
from tests.bench import harness
from tests.bench.parts.place import flights_broker
from tests.oracle.ask import Asker, channel_to
from tests.oracle.check import Checker, Drawing, Question, by_feature
from tests.oracle.flights import all_models
from tests.oracle.generate import QuerySpace
from tests.oracle.zones import micros
from tests.support.flights_frames import read_csv_frames
from tests.support.pg import SAMPLE_ROWS, temporary_server
from tests.support.server import running_broker

BATCH = 20
REPORTS = 5
FORMATS = (s.RESULT_FORMAT_COLUMNS, s.RESULT_FORMAT_ARROW)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    parser.add_argument("--seed", type=int, default=1, help="seed of the random queries")
    parser.add_argument("--queries", type=int, help="how many, in place of 520 or 10,000")


@asynccontextmanager
async def broker(*, quick: bool) -> AsyncIterator[str]:
    """The address of a broker over the sample, loaded for this run, or over all flights, kept between runs."""
    if not quick:
        async with flights_broker() as place:
            yield place.broker.address
        return
    with temporary_server() as server, tempfile.TemporaryDirectory(prefix="broker-") as home:
        connection = await asyncpg.connect(server.dsn())
        await load_flights(connection, sample_rows=SAMPLE_ROWS)
        await connection.close()
        await migrate(server.dsn(), "jobs")
        manager = running_broker(server.dsn(), Path(home))
        running = await asyncio.to_thread(manager.__enter__)
        try:
            yield running.address
        finally:
            await asyncio.to_thread(manager.__exit__, None, None, None)


async def ask(checker: Checker, number: int, batch: Sequence[Question]) -> list[str | None]:
    """What is wrong with the answers of a batch; every tenth batch is asked query by query."""
    if number % 10 != 9:
        return await checker.dashboard(batch, FORMATS[number % 2])
    return [await checker.explore(question, FORMATS[i % 2]) for i, question in enumerate(batch)]


async def measure(options: harness.Options) -> harness.Report:
    """All queries, batch by batch: the oracle computes the next batch while the broker answers this one."""
    count = options.own.queries or (520 if options.quick else 10_000)
    frames = await asyncio.to_thread(read_csv_frames, SAMPLE_ROWS if options.quick else None)
    now = micros(datetime.now(UTC))
    drawing = Drawing([QuerySpace.over(model, now) for model in all_models(frames)], options.own.seed)
    drawn = drawing.questions()
    questions: list[Question] = []
    wrongs: list[str | None] = []
    async with broker(quick=options.quick) as address, channel_to(address) as channel:
        checker = Checker(Asker(channel))
        following = asyncio.create_task(_batch(drawn, count))
        for number in track(range(-(-count // BATCH)), "answers", console=Console(stderr=True)):
            batch = await following
            following = asyncio.create_task(_batch(drawn, count - len(questions) - len(batch)))
            questions += batch
            wrongs += await ask(checker, number, batch)
        await following
        failed = [(q, w) for q, w in zip(questions, wrongs, strict=True) if w is not None]
        for question, wrong in failed[:REPORTS]:
            print(f"\nseed {options.own.seed}:\n{await checker.report(question, wrong)}")
    shapes = sorted(by_feature(questions, wrongs).items(), key=lambda item: -item[1][0])
    tally = checker.tally
    return harness.Report(
        metrics={
            "queries": len(questions),
            "mismatches": len(failed),
            "rows": sum(question.expected.row_count for question in questions),
            "ambiguous_queries": drawing.ambiguous,
            "large_queries": drawing.large,
            "sketch_values": tally.compared,
            "sketch_outside_share": tally.outside / max(1, tally.compared),
        },
        goals={
            "queries": harness.Goal(">=", 500 if options.quick else 10_000),
            "mismatches": harness.Goal("<=", 0),
            "sketch_outside_share": harness.Goal("<=", 0.05),
        },
        sections=[
            harness.Section(
                "what the queries have (a query has several)",
                ("feature", "queries", "mismatches"),
                [(name, *counts) for name, counts in shapes],
            )
        ],
    )


async def _batch(drawn: Iterator[Question], left: int) -> list[Question]:
    return await asyncio.to_thread(lambda: list(islice(drawn, max(0, min(BATCH, left)))))


def main() -> None:
    """Run from the command line."""
    harness.run("answers", __doc__, measure, add_arguments=add_arguments)
