"""Rollups whose days begin at different times: between two of them there may be no instant to change at."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from broker.domain.query import Grain
from broker.domain.rollup import Piece, Rule
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.cover import cover
from tests.support.rollup_scans import HOUR, ROLLUP, covered, day, scan, segment, span

WEST = replace(ROLLUP, name="west", grains=(Grain.DAY,), zone="UTC")
EAST = replace(ROLLUP, name="east", grains=(Grain.DAY,), zone="Asia/Tokyo")
QUICK = Costs.predicted(0.0005)
MIDNIGHT = timedelta(hours=-9)
"""Where a day of Tokyo begins, from that of UTC."""
HELD = {
    "west": replace(covered(segment(1, day(1), day(10))), rollup="west"),
    "east": replace(covered(segment(1, day(8) + MIDNIGHT, day(20) + MIDNIGHT)), rollup="east"),
}


def test_required_rollups_whose_buckets_do_not_meet_leave_the_least_to_the_tables() -> None:
    asked = scan(WEST, EAST, bounds=(day(1), day(20) + MIDNIGHT))
    found = cover(asked, (WEST, EAST), HELD, QUICK, require=True)
    gaps = {piece.rollup: piece.spans for piece in found.pieces}
    assert set(gaps) == {"west", "", "east"}
    (gap,) = gaps[""]
    assert gap.hi - gap.lo == 15 * HOUR  # from a midnight here to the next one there
    assert 0 < found.cost < 1


def test_where_the_tables_may_not_close_the_gap_nothing_answers() -> None:
    asked = scan(WEST, EAST, bounds=(day(1), day(20) + MIDNIGHT))
    found = cover(asked, (WEST, EAST), HELD, QUICK, require=True, sealed=(span(day(7), day(11)),))
    assert found.pieces == ()
    assert {rule for each in found.rejected for rule in each.rules} == {Rule.SEAL}


def test_one_that_holds_everything_needs_no_other() -> None:
    held = {**HELD, "west": replace(covered(segment(1, day(1), day(20))), rollup="west")}
    found = cover(scan(WEST, EAST), (WEST, EAST), held, QUICK, require=True)
    assert found.pieces == (Piece("west", (span(day(1), day(20)),)),)
