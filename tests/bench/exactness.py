"""Answers from rollups while the table changes, each against the live answer in the same snapshot.

Late inserts, rows that move in time, corrections, deletions and refreshes go on all the time. A dashboard asks the same
question twice: one panel requires rollups, the other forbids them, and both read one snapshot. Beside it, in the same
run, the usual split at a watermark is compared in the same way, to show that the comparison sees.

Quick: 300 comparisons or more. Full: 10,000.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import asyncpg

from querybroker import Client, QueryBrokerError, Result, policy
from querybroker.v1 import answer_pb2, query_pb2, query_service_pb2
from tests.bench import harness
from tests.bench.parts import moving
from tests.bench.parts.drawn import draw
from tests.bench.parts.watermark import control
from tests.support.pg import temporary_server
from tests.support.rollups import install, rollup_service

ASKERS, PAIRS = 4, 3
"""Dashboards at once, and questions of each."""
PACE = 0.2
"""Mean seconds between two transactions of a writer."""
REPORTS = 5


@dataclass(slots=True)
class Tally:
    """Comparisons, what was different, and what the rollup's side was."""

    comparisons: int = 0
    wrong: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, question: query_pb2.Query, rolled: Result, live: Result) -> None:
        """Compares one pair."""
        self.comparisons += 1
        self.kinds[answer_pb2.AnswerKind.Name(rolled.status.kind).removeprefix("ANSWER_KIND_").lower()] += 1
        found = difference(rolled.rows(), live.rows())
        if found:
            sources = [f"{part.source_name} {part.interval}" for part in rolled.status.parts]
            self.wrong.append(f"{found}\n{question}\nfrom {sources}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    parser.add_argument("--seed", type=int, default=1, help="seed of questions and changes")
    parser.add_argument("--comparisons", type=int, help="how many, in place of 300 or 10,000")


def difference(left: Sequence[tuple[object, ...]], right: Sequence[tuple[object, ...]]) -> str:
    """The first row that differs; doubles may in their last digits."""
    if len(left) != len(right):
        return f"{len(left)} rows from rollups, {len(right)} live"
    for one, other in zip(left, right, strict=True):
        if not all(map(equal, one, other)):
            return f"{one} from rollups, {other} live"
    return ""


def equal(one: object, other: object) -> bool:
    """Whether two values are equal."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


def pair(question: query_pb2.Query, i: int) -> dict[str, query_service_pb2.Panel]:
    """The question from rollups and live."""
    return {
        f"{name}{i}": query_service_pb2.Panel(query=question, policy=policy(rollup=mode))
        for name, mode in (("rolled", "require"), ("live", "forbid"))
    }


async def compare(address: str, random: Random, tally: Tally, wanted: int) -> None:
    """Asks until there are enough comparisons."""
    async with Client(address) as client:
        while tally.comparisons < wanted:
            questions = [draw(random) for _ in range(PAIRS)]
            panels = {
                name: p for i, question in enumerate(questions) for name, p in pair(question, i).items()
            }
            try:
                answered = await client.dashboard(panels, timeout=30)
            except QueryBrokerError as error:
                tally.kinds[f"refused: {error.reason}"] += 1
                continue
            for i, question in enumerate(questions):
                failed = answered.errors.get(f"rolled{i}") or answered.errors.get(f"live{i}")
                if failed is not None:
                    tally.kinds[f"refused: {failed.reason}"] += 1
                else:
                    tally.add(question, answered[f"rolled{i}"], answered[f"live{i}"])


@asynccontextmanager
async def place(rows: int, seed: int) -> AsyncIterator[tuple[str, str]]:
    """The table, its rollups built, a broker and a worker that keeps them up: the database and the broker's address."""
    with temporary_server() as server, tempfile.TemporaryDirectory(prefix="broker-") as home:
        connection = await asyncpg.connect(server.dsn())
        await moving.fill(connection, rows, Random(seed))
        await connection.close()
        config = Path(home) / "broker.yaml"
        config.write_text(moving.MODEL)
        await install(server.dsn(), config)
        async with rollup_service(server.dsn(), Path(home), config) as broker:
            yield server.dsn(), broker.address


async def measure(options: harness.Options) -> harness.Report:
    """All comparisons, and those of the control."""
    seed, wanted = options.own.seed, options.own.comparisons or (300 if options.quick else 10_000)
    tally = Tally()
    async with (
        place(20_000 if options.quick else 100_000, seed) as (dsn, address),
        moving.writers(dsn, seed, PACE) as writes,
        control(dsn, seed) as split,
        asyncio.TaskGroup() as group,
    ):
        for i in range(ASKERS):
            group.create_task(compare(address, Random(seed * 1000 + i), tally, wanted))
    return harness.Report(
        {
            "mismatches": len(tally.wrong),
            "comparisons": tally.comparisons,
            "control_mismatches": split.mismatches,
            "control_comparisons": split.comparisons,
            "writes": sum(writes.counts.values()),
            "rolled_share": (tally.kinds["rollup"] + tally.kinds["hybrid"]) / max(1, tally.comparisons),
        },
        {
            "mismatches": harness.Goal("<=", 0),
            "comparisons": harness.Goal(">=", 300 if options.quick else 10_000),
            "control_mismatches": harness.Goal(">=", 1),
        },
        [
            harness.Section("answers of the rollups' side", ("kind", "count"), sorted(tally.kinds.items())),
            harness.Section("changes", ("kind", "count"), sorted(writes.counts.items())),
            harness.Section("wrong answers", ("difference",), [(text,) for text in tally.wrong[:REPORTS]]),
        ],
    )


def main() -> None:
    """Runs it."""
    harness.run("exactness", __doc__, measure, add_arguments=add_arguments)
