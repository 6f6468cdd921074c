"""Which transactions a snapshot sees, and which spans of segments marks concern."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from broker.adapters.pg_rollup_marks import Marks, SegmentList, merged
from broker.adapters.pg_rollup_visibility import TransactionView
from broker.domain.rollup import ALWAYS, Segment, Span

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def listed(*segments: tuple[int, int, str], sealed: bool = False) -> SegmentList:
    """Segments of a rollup, each from a snapshot."""
    return SegmentList(
        "1",
        tuple(Segment(i, Span(lo, hi), 1, NOW, 0, 0, sealed) for i, (lo, hi, _) in enumerate(segments)),
        tuple(TransactionView.parse(text) for _, _, text in segments),
        ("",) * len(segments),
        tuple(lo for lo, _, _ in segments),
    )


@pytest.mark.parametrize(
    ("text", "seen", "unseen"),
    [
        ("10:10:", (9, 0), (10, 11)),
        ("10:20:10,14", (9, 11, 13, 19), (10, 14, 20, 21)),
        ("10:20:", (10, 19), (20,)),
        ("18446744073709551:18446744073709560:18446744073709555", (18446744073709554,), (18446744073709555,)),
    ],
)
def test_a_snapshot_sees_what_was_over(text: str, seen: tuple[int, ...], unseen: tuple[int, ...]) -> None:
    view = TransactionView.parse(text)
    assert all(view.sees(xid) for xid in seen)
    assert not any(view.sees(xid) for xid in unseen)


@pytest.mark.parametrize("text", ["", "10", "10:20", "10:20:x", "a:b:", "1:2:3:4"])
def test_what_is_no_snapshot_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        TransactionView.parse(text)


def test_spans_are_merged_where_they_touch() -> None:
    spans = [Span(5, 7), Span(0, 2), Span(2, 3), Span(6, 9), Span(4, 4), Span(8, 8), Span(12, 11)]
    assert merged(spans) == (Span(0, 3), Span(5, 9))
    assert merged([]) == ()


def test_marks_are_cut_to_the_segments_they_concern() -> None:
    segments = listed((0, 10, "5:5:"), (10, 20, "7:7:"), (30, 40, "5:9:5,6"))
    assert segments.since == 5
    assert segments.running == {5, 6}
    marks = Marks({Span(8, 12): 6, Span(31, 32): 8, ALWAYS: 4})
    assert segments.dirty(marks, ALWAYS) == (Span(8, 10),)
    assert segments.dirty(Marks({ALWAYS: 9}), Span(5, 35)) == (Span(5, 20), Span(30, 35))


def test_a_transaction_in_progress_at_the_build_is_not_hidden_by_a_later_one() -> None:
    segments = listed((0, 10, "5:9:5"))
    assert segments.dirty(Marks({Span(2, 4): 8}), ALWAYS) == ()
    assert segments.dirty(Marks({Span(2, 4): 8}, ((Span(2, 4), 5),)), ALWAYS) == (Span(2, 4),)


def test_nothing_concerns_a_sealed_segment() -> None:
    assert listed((0, 10, "5:5:"), sealed=True).dirty(Marks({ALWAYS: 9}), ALWAYS) == ()


def test_random_marks_against_every_single_one() -> None:
    """The last mark of each interval, with those of what was in progress, tells what all marks one by one do."""
    rng = Random(7)
    for _ in range(300):
        made = []
        for number in range(rng.randrange(1, 5)):
            xmin = rng.randrange(1, 20)
            xmax = xmin + rng.randrange(0, 8)
            running = sorted(rng.sample(range(xmin, xmax), rng.randrange(0, xmax - xmin + 1)))
            made.append(
                (
                    number * 10,
                    number * 10 + rng.randrange(1, 11),
                    f"{xmin}:{xmax}:{','.join(map(str, running))}",
                )
            )
        segments = listed(*made)
        marks = [
            (Span(lo, lo + rng.randrange(1, 15)), rng.randrange(1, 30))
            for lo in (rng.randrange(-5, 45) for _ in range(rng.randrange(0, 12)))
        ]
        last: dict[Span, int] = {}
        for span, xid in marks:
            if xid >= segments.since:
                last[span] = max(xid, last.get(span, 0))
        kept = Marks(last, tuple((span, xid) for span, xid in marks if xid in segments.running))
        asked = Span(rng.randrange(-5, 20), rng.randrange(20, 50))
        found = segments.dirty(kept, asked)
        expected = {
            at for at in range(asked.lo, asked.hi) for span, xid in marks
            for segment, view in zip(segments.segments, segments.views, strict=True)
            if span.lo <= at < span.hi and segment.span.lo <= at < segment.span.hi and not view.sees(xid)
        }  # fmt: skip
        assert {at for span in found for at in range(*span)} == expected
