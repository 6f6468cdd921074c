"""Answers of random queries, over real gRPC and PostgreSQL, against an oracle computed by Polars from the CSV files.

Quick: 520 queries on a sample of 50,000 flights. Full: 10,000 queries on all flights, for an hour or so; most of the
time is the oracle's. Four of five queries are asked as panels of dashboards, the others as explorations, half of all
in Arrow. ``tests/oracle/cells.py`` and ``tests/oracle/compare.py`` say which differences count as mismatches.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.progress import Progress

from broker.adapters.migrate import migrate
from broker.demo.flights import load_flights
from tests.bench import harness
from tests.bench.parts.place import flights_broker
from tests.oracle.ask import Asker, channel_to
from tests.oracle.check import Checker, Drawing, Question, by_feature, checked
from tests.oracle.flights import all_models
from tests.oracle.generate import QuerySpace
from tests.oracle.zones import micros
from tests.support.flights_frames import read_csv_frames
from tests.support.pg import SAMPLE_ROWS, temporary_server
from tests.support.server import running_broker

REPORTS = 5


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


async def measure(options: harness.Options) -> harness.Report:
    """All queries, and what went wrong with them."""
    count = options.own.queries or (520 if options.quick else 10_000)
    frames = await asyncio.to_thread(read_csv_frames, SAMPLE_ROWS if options.quick else None)
    now = micros(datetime.now(UTC))
    drawing = Drawing([QuerySpace.over(model, now) for model in all_models(frames)], options.own.seed)
    questions: list[Question] = []
    wrongs: list[str | None] = []
    async with broker(quick=options.quick) as address, channel_to(address) as channel:
        checker = Checker(Asker(channel))
        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task("answers", total=count)
            async for batch, found in checked(checker, drawing, count):
                questions += batch
                wrongs += found
                progress.advance(bar, len(batch))
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


def main() -> None:
    """Run from the command line."""
    harness.run("answers", __doc__, measure, add_arguments=add_arguments)
