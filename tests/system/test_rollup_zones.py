"""Zones with awkward clocks are answered from one rollup by quarters of an hour, right around both of their changes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random

from tests.bench.parts.zone_clocks import Change, Clocks, clocks
from tests.bench.parts.zone_questions import by_date, questions
from tests.bench.parts.zone_rows import Rows
from tests.bench.parts.zone_tally import Asked, Tally, ask
from tests.bench.zones import quiet, serving
from tests.conftest import FreshDatabase
from tests.oracle.zones import micros

FIRST, LAST = datetime(2010, 9, 1, tzinfo=UTC), datetime(2012, 1, 1, tzinfo=UTC)
WHOLE = micros(datetime(2011, 6, 15, 12, tzinfo=UTC))
ZONES = (
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Eucla",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "UTC",
)


def changes(each: Clocks) -> list[Change]:
    """Those of sixteen months, or an ordinary day."""
    found = [change for change in each.changes if micros(FIRST) <= change.at < micros(LAST)]
    return found or [quiet(each, WHOLE)]


async def test_awkward_zones_are_right_from_one_rollup(fresh_database: FreshDatabase, home: Path) -> None:
    random, every = Random(7), [(each, changes(each)) for each in clocks(ZONES)]
    rows = Rows([WHOLE, *(change.at for _, found in every for change in found)], random, FIRST, LAST)
    asked = [
        Asked(question, ("rolled", "live"))
        for each, found in every
        for change in found
        for question in questions(each.names[0], each.clock, change, random, ("week", "month"))
    ]
    hourly = [
        Asked(by_date(each.names[0], each.clock, quiet(each, WHOLE), "day"), ("hours",)) for each, _ in every
    ]
    tally = Tally(rows)
    async with serving(await fresh_database(), home, rows, year=2011) as address:
        await ask(address, [*asked, *hourly], tally)
    assert (tally.wrong, tally.sources) == ([], [])
    assert tally.refused == 3  # hours of St. John's and of Gaza that begin a minute past midnight
    assert (tally.rolled, tally.live) == (len(asked) - tally.refused, len(asked))
    assert tally.control_differs == tally.control > 20
    assert tally.hourly_refused == 6  # Chatham, Eucla, Kathmandu, Lord Howe (in winter), St. John's, Tehran
    assert tally.hourly_answered == len(ZONES) - 6
