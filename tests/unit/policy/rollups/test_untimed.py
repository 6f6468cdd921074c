"""Rows without a time are counted once, from the tables or from one relation, and only where they are asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.domain.query import AllOf, Condition, Operator
from broker.domain.rollup import ALWAYS, FAR_FUTURE, FAR_PAST, Piece, Span, Storage
from broker.policy.rollups.asked import Asked
from broker.policy.rollups.untimed import timed
from tests.support.rollup_scans import ROLLUP, scan

THEIRS = replace(ROLLUP, name="theirs", storage=Storage.EXTERNAL)
TIMED = Condition("at", Operator.IS_NOT_NULL, ())
ANY = Asked(ALWAYS, nulls=True, rest=(), given=())
EARLY, LATE = Span(FAR_PAST, 0), Span(0, FAR_FUTURE)
ENDLESS = scan(time="", bounds=None)


@pytest.mark.parametrize(
    ("pieces", "theirs"),
    [
        ([Piece("theirs", (ALWAYS,))], True),
        ([Piece("theirs", (EARLY,)), Piece("", (LATE,))], False),
        ([Piece("", (EARLY,)), Piece("theirs", (LATE,))], False),
        ([Piece("theirs", (EARLY, Span(9, FAR_FUTURE))), Piece("", (Span(0, 9),))], True),
        ([Piece("others", (EARLY,)), Piece("theirs", (LATE,))], False),
        ([Piece("theirs", (EARLY,)), Piece("unlike", (LATE,))], True),
    ],
)
def test_one_source_gives_the_rows_without_a_time(pieces: list[Piece], *, theirs: bool) -> None:
    read = timed(ENDLESS, THEIRS, ANY, pieces)
    assert read.filter == (None if theirs else TIMED)


def test_they_are_left_out_where_they_are_not_asked_for() -> None:
    kind = Condition("kind", Operator.EQ, ("bus",))
    filtered, asked = replace(ENDLESS, filter=kind), replace(ANY, nulls=False)
    assert timed(filtered, THEIRS, asked, [Piece("theirs", (ALWAYS,))]).filter == AllOf((kind, TIMED))


def test_rollups_of_the_broker_and_ranges_have_none() -> None:
    pieces, asked = [Piece("theirs", (ALWAYS,))], replace(ANY, nulls=False)
    ranged = scan()
    assert timed(ENDLESS, ROLLUP, asked, pieces) is ENDLESS
    assert timed(ranged, THEIRS, asked, pieces) is ranged
