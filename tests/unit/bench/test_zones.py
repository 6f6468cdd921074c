"""What the benchmark of time zones holds for true is what ``zoneinfo`` says of every single row."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from random import Random
from zoneinfo import ZoneInfo

import pytest

from tests.bench.parts.zone_clocks import Clocks, clocks
from tests.bench.parts.zone_questions import by_date, by_hour, difference, unchanged
from tests.bench.parts.zone_rows import QUARTER, Rows
from tests.oracle.zones import DAY, micros, moment

ZONES = (
    "Africa/Casablanca",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Asia/Gaza",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
)


@pytest.fixture(scope="module")
def found() -> dict[str, Clocks]:
    return {each.names[0]: each for each in clocks(ZONES)}


@pytest.fixture(scope="module")
def rows(found: dict[str, Clocks]) -> Rows:
    return Rows({change.at for each in found.values() for change in each.changes}, Random(3))


@pytest.mark.parametrize(
    ("zone", "at", "hours"),
    [
        ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC), 24),
        ("Australia/Lord_Howe", datetime(2008, 4, 5, 15, tzinfo=UTC), -0.5),
        ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC), -1),
        ("Asia/Pyongyang", datetime(2018, 5, 4, 15, tzinfo=UTC), 0.5),
    ],
)
def test_known_changes_are_found(found: dict[str, Clocks], zone: str, at: datetime, hours: float) -> None:
    (change,) = [change for change in found[zone].changes if change.at == micros(at)]
    assert change.after - change.before == timedelta(hours=hours) // timedelta(microseconds=1)


def test_names_of_one_clock_are_found_together() -> None:
    (one,) = clocks(["Asia/Katmandu", "Asia/Kathmandu"])
    assert one.names == ("Asia/Kathmandu", "Asia/Katmandu")
    assert one.changes == ()


@pytest.mark.parametrize("zone", ZONES)
def test_days_are_the_local_dates_of_rows(found: dict[str, Clocks], rows: Rows, zone: str) -> None:
    for change in found[zone].changes:
        question = by_date(zone, found[zone].clock, change, "day")
        inside = (rows.at >= question.low) & (rows.at < question.high)
        dates = [moment(int(at)).astimezone(ZoneInfo(zone)).date() for at in rows.at[inside]]
        # A day that has begun goes on when clocks are put back to the day before.
        held: dict[date, list[int]] = defaultdict(list)
        for day, amount in zip(accumulate(dates, max), rows.amounts[inside].tolist(), strict=True):
            held[day].append(amount)
        truth = question.truth(rows)
        assert [(count, total) for _, count, total in truth] == [(len(e), sum(e)) for e in held.values()]
        begins = [moment(start).astimezone(ZoneInfo(zone)).date() for start, _, _ in truth]
        assert begins == list(held)


@pytest.mark.parametrize("zone", ZONES)
def test_hours_are_the_local_hours_and_offsets_of_rows(
    found: dict[str, Clocks], rows: Rows, zone: str
) -> None:
    for change in found[zone].changes:
        question = by_hour(zone, found[zone].clock, change, Random(5), gap_fill=False)
        inside = (rows.at >= question.low) & (rows.at < question.high)
        held: dict[object, list[int]] = defaultdict(list)
        for at, amount in zip(rows.at[inside], rows.amounts[inside].tolist(), strict=True):
            local = moment(int(at)).astimezone(ZoneInfo(zone))
            held[local.date(), local.hour, local.utcoffset()].append(amount)
        assert [bucket[1:] for bucket in question.truth(rows)] == [(len(e), sum(e)) for e in held.values()]


def test_rows_tell_a_clock_that_was_changed_from_one_that_was_not(
    found: dict[str, Clocks], rows: Rows
) -> None:
    for zone, each in found.items():
        for change in each.changes:
            if (change.after - change.before) % DAY:
                question = by_date(zone, each.clock, change, "day")
                assert difference(question.truth(rows), question.truth(rows, unchanged(change)))


def test_hours_that_begin_within_a_quarter_are_known(found: dict[str, Clocks]) -> None:
    odd = [
        change.at
        for change in found["America/St_Johns"].changes
        if not by_hour("", found["America/St_Johns"].clock, change, Random(1), gap_fill=False).fits(QUARTER)
    ]
    assert odd == [change.at for change in found["America/St_Johns"].changes if change.at % QUARTER]
    assert len(odd) == 23
