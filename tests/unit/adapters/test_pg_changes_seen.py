"""Marks that were seen, beside a list of all marks: whom they concern, when older ones are forgotten as well."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from broker.adapters.pg_changes_seen import Mark, Seen, follows, unseen
from broker.adapters.pg_rollup_visibility import TransactionView
from broker.domain.rollup import Span


@dataclass
class Server:
    """Transactions that begin, mark and end in any order, and the snapshots between."""

    random: Random
    next: int = 10
    running: dict[int, list[Mark]] = field(default_factory=dict)
    committed: list[Mark] = field(default_factory=list)

    def step(self) -> None:
        if len(self.running) < 5 and self.random.random() < 0.6:
            self.running[self.next] = []
            self.next += 1
        elif self.running:
            xid = self.random.choice(list(self.running))
            if self.random.random() < 0.5:
                lo = self.random.randrange(100)
                self.running[xid].append(Mark(lo, lo + self.random.randrange(1, 5), xid))
            else:
                marks = self.running.pop(xid)
                self.committed += marks if self.random.random() < 0.8 else []

    def view(self) -> TransactionView:
        return TransactionView(min(self.running, default=self.next), self.next, frozenset(self.running))

    def visible(self, view: TransactionView) -> list[Mark]:
        return [mark for mark in self.committed if view.sees(mark.xid)]


@pytest.mark.parametrize("most", [10, 40, 100_000])
@pytest.mark.parametrize("seed", range(4))
def test_an_answer_is_concerned_by_what_a_look_sees_and_it_does_not(seed: int, most: int) -> None:
    random = Random(seed)
    server = Server(random)
    seen = Seen(0, None, most)
    last: TransactionView | None = None
    answers: list[tuple[TransactionView, Span, int, bool]] = []
    known = unknown = concerned = 0
    for _ in range(800):
        server.step()
        if random.random() < 0.15:
            lo = random.randrange(100)
            answers.append((server.view(), Span(lo, lo + random.randrange(1, 20)), 0, False))
            del answers[:-30]
        if random.random() >= 0.1:
            continue
        now = server.view()
        assert last is None or follows(now, last)
        new = [mark for mark in server.visible(now) if last is None or not last.sees(mark.xid)]
        assert seen.saw(now, new) is bool(new)
        last = now
        for place, (view, span, checked, before) in enumerate(answers):
            if not seen.knows(view):
                unknown += 1
                continue
            known += 1
            truth = any(
                mark.lo < span.hi and mark.hi > span.lo and not view.sees(mark.xid)
                for mark in server.visible(now)
            )
            assert seen.concerned(view, span) is truth
            assert (before or seen.concerned(view, span, checked)) is truth
            concerned += truth
            answers[place] = view, span, seen.count, truth
        assert seen.knows(now)
    assert known > 200
    assert 0 < concerned < known
    assert (unknown > 0) is (most < 100)


def test_what_may_be_gone_is_not_known() -> None:
    view = TransactionView(10, 20, frozenset({10, 15}))
    assert Seen(10).knows(view)
    assert not Seen(11).knows(view)
    assert [unseen(view, before) for before in (10, 11, 20, 21)] == [False, True, True, True]
    settled = TransactionView(20, 20, frozenset())
    assert [unseen(settled, before) for before in (20, 21)] == [False, True]
