"""The marks of one source that were seen, and which answers they concern."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from broker.adapters.pg_rollup_visibility import TransactionView
from broker.domain.rollup import Span

MOST_SEEN = 20_000
"""Marks of a source that are remembered; beyond that, and after as many in one look, older answers lose sight."""


class Mark(NamedTuple):
    """An interval that a transaction changed."""

    lo: int
    hi: int
    xid: int


class Seen:
    """Marks in the order in which looks found them, the oldest forgotten first.

    An answer is told by the snapshot that was there before it was read. What it does not see may be missing in it.
    Snapshots of one server follow each other, so an answer that is not older than a look needs nothing from before it.
    """

    __slots__ = ("_base", "_ends", "_floor", "_forgotten", "_marks", "_most", "_views")

    def __init__(self, floor: int, base: TransactionView | None = None, most: int = MOST_SEEN) -> None:
        """Knows the marks of transactions from ``floor`` on; with a base nothing from before that look."""
        self._floor, self._base, self._most = floor, base, most
        self._marks: list[Mark] = []
        self._views: list[TransactionView] = []
        self._ends: list[int] = []
        self._forgotten = 0

    @property
    def count(self) -> int:
        """Marks that were ever seen."""
        return self._forgotten + len(self._marks)

    def saw(self, view: TransactionView, marks: Iterable[Mark]) -> bool:
        """Adds what a look found anew; whether it found anything."""
        before = len(self._marks)
        self._marks += marks
        if len(self._marks) == before:
            return False
        self._views.append(view)
        self._ends.append(len(self._marks))
        if len(self._marks) > self._most:
            self._forget(len(self._marks) // 2)
        return True

    def knows(self, view: TransactionView) -> bool:
        """Whether all marks are known that could concern an answer from after this snapshot."""
        return view.xmin >= self._floor and (self._base is None or follows(view, self._base))

    def concerned(self, view: TransactionView, span: Span, since: int = 0) -> bool:
        """Whether a mark meets the span that the snapshot does not see, of those after the first ``since``."""
        if not self._views or self._views[-1].xmax <= view.xmin:
            return False
        first = bisect_left(self._views, True, key=lambda each: not follows(view, each))
        begin = max(since - self._forgotten, self._ends[first - 1] if first else 0, 0)
        lo, hi, xmax, running = span.lo, span.hi, view.xmax, view.running
        return any(
            mark.lo < hi and mark.hi > lo and (mark.xid >= xmax or mark.xid in running)
            for mark in self._marks[begin:]
        )

    def _forget(self, least: int) -> None:
        """Forgets the looks that found the oldest marks, at least so many."""
        position = bisect_left(self._ends, least)
        cut = self._ends[position]
        self._base = self._views[position]
        self._forgotten += cut
        self._marks = self._marks[cut:]
        self._views = self._views[position + 1 :]
        self._ends = [end - cut for end in self._ends[position + 1 :]]


def follows(later: TransactionView, earlier: TransactionView) -> bool:
    """Whether a snapshot sees everything that an earlier one sees."""
    return (
        earlier.xmin <= later.xmin
        and earlier.xmax <= later.xmax
        and all(xid >= earlier.xmax or xid in earlier.running for xid in later.running)
    )


def unseen(view: TransactionView, before: int) -> bool:
    """Whether a transaction before this one is not seen by the snapshot."""
    return view.xmax < before or any(xid < before for xid in view.running)
