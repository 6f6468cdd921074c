"""What proves that rows are the same: every condition by itself, by what happens without it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.domain.rollup import ALWAYS, Coverage, Rule, Segment, Span, Storage, Tracking
from broker.policy.rollups.closed import proof, provers
from tests.support.rollup_world import DATASET, ROLLUP

NOW = datetime(2024, 6, 1, tzinfo=UTC)
FIRST, SECOND = Segment(1, Span(0, 10), 1, NOW, 0, 0), Segment(2, Span(10, 20), 1, NOW, 0, 0)
WHOLE = Coverage("days", (FIRST, SECOND))
MIDDLE = Span(5, 15)


def proven(coverage: Coverage, span: Span = MIDDLE) -> str:
    return proof(DATASET, ROLLUP, coverage, span)


def test_the_same_clean_versions_give_the_same_proof() -> None:
    beside = replace(
        WHOLE,
        segments=(*WHOLE.segments, Segment(9, Span(20, 30), 4, NOW, 0, 0)),
        dirty=(Span(0, 5), Span(15, 30)),
    )
    assert proven(WHOLE) == proven(beside) != ""
    assert proven(WHOLE, Span(10, 20)) == proven(replace(WHOLE, segments=(SECOND,)), Span(10, 20)) != ""
    assert proven(WHOLE, Span(0, 10)) not in {"", proven(WHOLE)}


@pytest.mark.parametrize(
    "segment",
    [
        replace(SECOND, id=3),
        replace(SECOND, version=2),
        replace(SECOND, as_of=NOW + timedelta(microseconds=1)),
    ],
)
def test_other_versions_give_another_proof(segment: Segment) -> None:
    assert proven(replace(WHOLE, segments=(FIRST, segment))) not in {"", proven(WHOLE)}


def test_another_definition_gives_another_proof() -> None:
    other = replace(ROLLUP, lateness=1.0)
    assert proof(DATASET, other, WHOLE, MIDDLE) not in {"", proven(WHOLE)}


@pytest.mark.parametrize(
    ("coverage", "span"),
    [
        (replace(WHOLE, dirty=(Span(14, 16),)), MIDDLE),
        (replace(WHOLE, unusable=Rule.QUARANTINE), MIDDLE),
        (replace(WHOLE, lateness=60.0), MIDDLE),
        (replace(WHOLE, segments=(FIRST, replace(SECOND, sealed=True))), MIDDLE),
        (replace(WHOLE, segments=(FIRST,)), MIDDLE),
        (replace(WHOLE, segments=(SECOND,)), MIDDLE),
        (replace(WHOLE, segments=(replace(FIRST, span=Span(0, 9)), SECOND)), MIDDLE),
        (WHOLE, Span(5, 21)),
        (WHOLE, Span(-1, 15)),
        (WHOLE, ALWAYS),
        (WHOLE, Span(7, 7)),
    ],
)
def test_what_is_not_wholly_covered_and_clean_proves_nothing(coverage: Coverage, span: Span) -> None:
    assert proven(coverage, span) == ""


def test_only_rollups_whose_changes_are_marked_prove_anything() -> None:
    others = {
        "promised": replace(ROLLUP, name="promised", tracking=Tracking.APPEND_ONLY),
        "told": replace(ROLLUP, name="told", tracking=Tracking.CHANGE_TOKEN),
        "theirs": replace(ROLLUP, name="theirs", storage=Storage.EXTERNAL),
    }
    assert provers(replace(DATASET, rollups={"days": ROLLUP} | others)) == (ROLLUP,)
