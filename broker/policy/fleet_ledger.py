"""The shared state of a fleet as a model in memory: what any store of it has to do, and what simulations use.

One call at a time is handled, as a lock in the store ensures between processes. Every rule that keeps leases within
the limit is here and nowhere else on the reading side: members only ask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.domain.fleet import Beat, Leased, Reading
from broker.policy.leases import INTERVAL, TTL, TURN

PAUSE = 0.9 * INTERVAL
"""Seconds between two moves of the limit: members that read the same evidence propose the same move, once each."""


@dataclass(slots=True)
class _Backend:
    limit: float
    revision: int
    moved_at: float
    holder: str = ""
    until: float = -math.inf
    extra: int = 0
    rows: dict[str, tuple[Leased, float]] = field(default_factory=dict)


class Ledger:
    """Grants leases. ``now`` is one clock for all members, in seconds."""

    def __init__(self) -> None:
        self._backends: dict[str, _Backend] = {}

    def beat(self, beat: Beat, now: float) -> Reading:
        """Takes a member's report and grants its lease.

        The lease is what the member asks for, as far as the leases of the others leave it. The limit moves to the
        proposal when the proposer knew the present one and the last move is long enough ago. The probe token goes to
        the first who asks once the last one is over.
        """
        me, backend = beat.report.member, self._backends.get(beat.backend)
        if backend is None:
            backend = self._backends[beat.backend] = _Backend(beat.limit, 1, now)
        elif self._may_move(backend, beat, now):
            backend.limit, backend.moved_at = beat.limit, now
            backend.revision += 1
        rows = {name: row for name, row in backend.rows.items() if row[1] > now and name != me}
        if beat.probe and backend.until <= now:
            backend.holder, backend.until, backend.extra = me, now + TTL, beat.extra
        probe = backend.extra if backend.until > now else 0
        bound = max(math.floor(backend.limit), len(rows) + 1) + probe
        others = [leased for leased, _ in rows.values()]
        seats = max(0, min(beat.target, bound - sum(leased.seats for leased in others)))
        mine = Leased(beat.report, seats)
        backend.rows = {**rows, me: (mine, now + TTL)}
        probing = probe > 0 and backend.holder == me
        turn = math.floor(now / TURN)
        return Reading(seats, backend.limit, backend.revision, turn, probing, (mine, *others))

    @staticmethod
    def _may_move(backend: _Backend, beat: Beat, now: float) -> bool:
        moved = beat.limit != backend.limit and beat.revision == backend.revision
        return moved and now - backend.moved_at >= PAUSE

    def leave(self, member: str) -> None:
        """Gives back everything that a member holds."""
        for backend in self._backends.values():
            backend.rows.pop(member, None)

    def forget(self) -> None:
        """Loses everything, as an unlogged table does when its server crashes."""
        self._backends.clear()

    def leases(self, backend: str, now: float) -> Sequence[Leased]:
        """The leases that have not run out."""
        known = self._backends.get(backend)
        return [] if known is None else [leased for leased, until in known.rows.values() if until > now]
