"""What has been removed from caches, so that it does not come back.

An answer that was read before a removal, and is kept or found after it, is one of the removed. Processes pass on what
they know of removals and put it together: for each selection the latest instant counts, so the order does not matter,
nor how often something is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from broker.domain.held import Held, Selection

MOST = 256
"""Removals that are remembered one by one; more become one of everything."""
EVERYTHING = Selection()


class Removals:
    """Removals by selection; each is forgotten after ``memory`` seconds, when what it removed would have ended too."""

    __slots__ = ("_known", "_memory")

    def __init__(self, memory: float) -> None:
        self._known: dict[Selection, datetime] = {}
        self._memory = timedelta(seconds=memory)

    @property
    def known(self) -> Mapping[Selection, datetime]:
        """What is remembered."""
        return dict(self._known)

    def removed(self, held: Held) -> bool:
        """Whether an answer belongs to what was removed after it was read."""
        as_of = held.as_of
        return any(at >= as_of and selection.takes(held) for selection, at in self._known.items())

    def learn(self, told: Iterable[tuple[Selection, datetime]], now: datetime) -> tuple[Selection, ...]:
        """Adds removals; gives those that are new, or later than what was known of them."""
        oldest = now - self._memory
        news: dict[Selection, None] = {}
        for selection, at in told:
            known = self._known.get(selection)
            if at >= oldest and (known is None or known < at):
                self._known[selection] = at
                news[selection] = None
        for selection in [s for s, at in self._known.items() if at < oldest]:
            del self._known[selection]
        if len(self._known) > MOST:
            self._known = {EVERYTHING: max(self._known.values())}
            return (EVERYTHING,)
        return tuple(news)
