"""Which transactions a snapshot sees, and which spans of segments marks concern."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from broker.adapters import pg_rollup_marks as module
from broker.adapters.pg_rollup_marks import NEVER, MarkMemory, Marks, SegmentList, merged
from broker.adapters.pg_rollup_visibility import TransactionView
from broker.domain.rollup import ALWAYS, Segment, Span

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def listed(*segments: tuple[int, int, str], sealed: bool = False) -> SegmentList:
    """Segments of a rollup, each from a snapshot."""
    made = [Segment(i, Span(lo, hi), 1, NOW, 0, 0, sealed) for i, (lo, hi, _) in enumerate(segments)]
    views = [TransactionView.parse(text) for _, _, text in segments]
    return SegmentList.of("1", made, views, [""] * len(segments))


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


def test_segments_that_overlap_a_span_are_beside_each_other() -> None:
    segments = listed(*((lo, hi, "5:5:") for lo, hi in ((0, 4), (4, 6), (9, 12), (14, 15))))
    for span in (Span(lo, hi) for lo in range(-1, 17) for hi in range(lo + 1, 18)):
        wanted = [
            i for i, own in enumerate(segments.segments) if own.span.lo < span.hi and span.lo < own.span.hi
        ]
        assert list(segments.overlapping(span)) == wanted
    assert list(segments.overlapping(ALWAYS)) == [0, 1, 2, 3]


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


class History:
    """Transactions that begin, mark and end, as PostgreSQL numbers and shows them."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.next = 100
        self.running: set[int] = set()
        self.marks: list[tuple[Span, int]] = []
        self.committed: set[int] = set()

    def step(self) -> None:
        """Something happens."""
        if len(self.running) < 4 and self.rng.random() < 0.6:
            self.running.add(self.next)
            self.next += 1
        for xid in sorted(self.running):
            if self.rng.random() < 0.5:
                lo = self.rng.randrange(0, 40)
                self.marks.append((Span(lo, lo + self.rng.randrange(1, 9)), xid))
            if self.rng.random() < 0.3:
                self.running.discard(xid)
                if self.rng.random() < 0.8:
                    self.committed.add(xid)

    def snapshot(self) -> str:
        """The text of a snapshot of now."""
        xmin = min(self.running, default=self.next)
        return f"{xmin}:{self.next}:{','.join(map(str, sorted(self.running)))}"

    def read(self, since: int, running: frozenset[int]) -> Marks:
        """What a snapshot of now answers."""
        last: dict[Span, int] = {}
        for span, xid in self.marks:
            if xid in self.committed and xid >= since:
                last[span] = max(xid, last.get(span, 0))
        seen = tuple((s, x) for s, x in self.marks if x in self.committed and x in running)
        return Marks(last, seen)


@pytest.mark.parametrize("seed", range(30))
def test_what_is_remembered_tells_what_everything_read_anew_does(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_MARKS", 20)
    rng = Random(seed)
    history, memory = History(rng), MarkMemory()
    views = dict.fromkeys(range(0, 40, 10), "1:1:")
    asked: list[int] = []
    for _ in range(150):
        history.step()
        if rng.random() < 0.2:  # a build is published, from a snapshot of some time ago
            views[rng.randrange(0, 4) * 10] = rng.choice([history.snapshot(), *views.values()])
        segments = listed(*((lo, lo + 10, view) for lo, view in views.items()))
        since = segments.since if rng.random() < 0.9 else NEVER
        asked.append(memory.ask(since))
        told = history.read(asked[-1], segments.running)
        assert memory.learn(TransactionView.parse(history.snapshot()), asked[-1], told.last, since)
        assert memory.covers(since)
        if since != NEVER:
            kept = Marks(memory.last, told.running)
            assert segments.dirty(kept, ALWAYS) == segments.dirty(history.read(0, segments.running), ALWAYS)
    assert memory.ask(history.next) > 100  # most is not read again


def test_a_server_that_has_fallen_behind_is_read_anew() -> None:
    memory = MarkMemory()
    assert memory.ask(5) == 5
    assert memory.learn(TransactionView.parse("9:9:"), 5, {Span(0, 1): 8}, 5)
    assert (memory.ask(5), memory.covers(5)) == (9, True)
    assert not memory.learn(TransactionView.parse("7:7:"), 9, {}, 5)
    assert (memory.ask(5), dict(memory.last)) == (5, {})
