"""Every IANA zone, around every change of its clock since 2000, from one rollup by quarters of an hour in UTC.

A table has rows around all changes. Days, hours and weeks or months around each change are asked for in the zone, as
dashboards that require the rollup, and are compared with what the rows add up to; some are asked live as well. Some
hours begin within a quarter (clocks that are changed a minute past midnight): these must be refused.

Two controls run beside it. A rollup by the hour must be refused, with code TZ, by zones whose days do not begin with an
hour, and answer the others. And every day around a change must differ from that of a clock that was not changed, so the
comparison sees.

Quick: every zone, at its last change to either side. Full: every change.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import asyncpg

from tests.bench import harness
from tests.bench.parts.zone_clocks import Change, Clocks, clocks, names
from tests.bench.parts.zone_questions import by_date, questions
from tests.bench.parts.zone_rows import MODEL, QUARTER, Rows
from tests.bench.parts.zone_tally import Asked, Tally, ask
from tests.oracle.zones import SECOND
from tests.support.pg import temporary_server
from tests.support.rollups import install, rollup_service

YEAR = 2024
QUIET = (1_711_846_800 * SECOND, 1_729_990_800 * SECOND)
"""Europe's changes of that year. Zones whose clocks are never changed are asked then, and all of them from hours."""
REPORTS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    parser.add_argument("--seed", type=int, default=1, help="seed of rows and questions")


def chosen(each: Clocks, *, quick: bool) -> list[Change]:
    """The changes to ask about: all, or the last forward and the last back."""
    if not each.changes:
        return [quiet(each, at) for at in QUIET]
    if not quick:
        return list(each.changes)
    return list({change.after > change.before: change for change in each.changes}.values())


def quiet(each: Clocks, at: int) -> Change:
    """A change elsewhere."""
    offset = each.clock.local(at) - at
    return Change(at, offset, offset)


def asked(each: Clocks, changes: Sequence[Change], random: Random, *, quick: bool) -> list[Asked]:
    """The questions about all names of a clock. Hours that must be refused are always asked live as well."""
    found = []
    for name in each.names:
        for i, change in enumerate(changes):
            wide = () if quick and i else random.choices(("week", "month"))
            for question in questions(name, each.clock, change, random, wide):
                beside = random.random() < 0.1 or not question.fits(QUARTER)
                found.append(Asked(question, ("rolled", "live") if beside else ("rolled",)))
        found.append(Asked(by_date(name, each.clock, quiet(each, QUIET[1]), "day"), ("hours",)))
    return found


@asynccontextmanager
async def serving(dsn: str, home: Path, rows: Rows, year: int) -> AsyncIterator[str]:
    """The tables, their rollups built, and a broker: its address."""
    connection = await asyncpg.connect(dsn)
    await rows.load(connection, year)
    await connection.close()
    config = home / "broker.yaml"
    config.write_text(MODEL)
    await install(dsn, config)
    async with rollup_service(dsn, home, config) as broker:
        yield broker.address


async def measure(options: harness.Options) -> harness.Report:
    """All zones."""
    random = Random(options.own.seed)
    started = time.perf_counter()
    found = [(each, chosen(each, quick=options.quick)) for each in clocks(names())]
    rows = Rows([*QUIET, *(change.at for _, changes in found for change in changes)], random)
    tally = Tally(rows)
    todo = [one for each, changes in found for one in asked(each, changes, random, quick=options.quick)]
    drawn = time.perf_counter()
    with temporary_server() as server, tempfile.TemporaryDirectory(prefix="broker-") as home:
        async with serving(server.dsn(), Path(home), rows, YEAR) as address:
            built = time.perf_counter()
            await ask(address, todo, tally)
            answered = time.perf_counter()
    times = [
        ("zones and rows", drawn - started),
        ("load and build", built - drawn),
        ("ask", answered - built),
    ]
    return harness.Report(
        {
            "mismatches": len(tally.wrong),
            "comparisons": tally.comparisons,
            "zones": len({one.question.zone for one in todo}),
            "transitions": sum(len(each.names) * len(changes) for each, changes in found if each.changes),
            "rolled_share": tally.rolled / max(1, sum("rolled" in one.sides for one in todo) - tally.refused),
            "live_comparisons": tally.live,
            "wrong_sources": len(tally.sources),
            "refused_rightly": tally.refused,
            "hourly_refused": tally.hourly_refused,
            "hourly_answered": tally.hourly_answered,
            "asked_again": tally.asked_again,
            "control_comparisons": tally.control,
            "control_blind": tally.control - tally.control_differs,
            "control_utc_mismatches": tally.utc_differs,
        },
        {
            "mismatches": harness.Goal("<=", 0),
            "zones": harness.Goal(">=", len(names())),
            "rolled_share": harness.Goal(">=", 1),
            "wrong_sources": harness.Goal("<=", 0),
            "hourly_refused": harness.Goal(">=", 1),
            "control_blind": harness.Goal("<=", 0),
            "control_utc_mismatches": harness.Goal(">=", 1),
        },
        [
            harness.Section(f"{len(rows):,} rows", ("step", "seconds"), times),
            harness.Section("answers of the rollup", ("kind", "count"), sorted(tally.kinds.items())),
            harness.Section("wrong answers", ("difference",), [(text,) for text in tally.wrong[:REPORTS]]),
            harness.Section("wrong sources", ("question",), [(text,) for text in tally.sources[:REPORTS]]),
        ],
    )


def main() -> None:
    """Runs it."""
    harness.run("zones", __doc__, measure, add_arguments=add_arguments)
