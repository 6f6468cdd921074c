"""What is known to be sealed, and for how long."""

from __future__ import annotations

from dataclasses import replace

from broker.domain.rollup import Coverage, Rule
from broker.pipeline.known_seals import KNOWN_SECONDS, SETTLE_SECONDS, KnownSeals
from broker.rollups.watch import LOOK_SECONDS
from tests.support.rollup_scans import ROLLUP, covered, dataset, day, segment, span
from tests.support.segments import HandClock

OLD = replace(ROLLUP, name="old", dimensions=("kind", "tenant"))
RIDES = dataset(ROLLUP, OLD)
SEALED = span(day(1), day(10))


def test_seals_are_unknown_until_they_are_learned_and_stay_when_a_rollup_may_not_be_used() -> None:
    clock = HandClock()
    known = KnownSeals(clock.monotonic)
    assert known(RIDES) is None
    assert known.last(RIDES) is None
    plain = replace(RIDES, name="plain", rollups={})
    assert known(plain) == known.last(plain) == {}
    lost = Coverage("old", unusable=Rule.DEF, sealed=(SEALED,))
    known.learn(RIDES, (lost, covered(segment(1, day(1), day(20)))), clock.monotonic())
    assert known(RIDES) == known.last(RIDES) == {"at": (SEALED,)}


def test_what_was_found_holds_from_before_the_look_until_shortly_before_rows_may_be_deleted() -> None:
    clock = HandClock()
    known = KnownSeals(clock.monotonic)
    began = clock.seconds
    clock.seconds += 1.0  # the look took its time
    known.learn(RIDES, (), began)
    clock.seconds = began + KNOWN_SECONDS - 0.01
    assert known(RIDES) == {}
    clock.seconds = began + KNOWN_SECONDS
    assert known(RIDES) is None, "somebody may have sealed something since"
    assert known.last(RIDES) == {}
    assert 1.5 * LOOK_SECONDS < KNOWN_SECONDS < SETTLE_SECONDS
