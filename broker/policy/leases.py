"""How the seats of one backend are divided between the processes that share it. Pure, and the same in all of them.

There is no leader. Every member reads the reports of all and computes its own *target* by :func:`allocate`, the same
function of the same rows everywhere, so the targets add up. Rows are read at different moments, though, and two members
could both raise their leases on the word of old ones; therefore the shared store grants leases, one member at a time,
and never more than what the others hold leaves of the limit (:class:`broker.policy.fleet_ledger.Ledger` is its model).
A lease that shrinks does so at once, one that grows waits for it: leases never add up to more than the limit, and what
runs exceeds it by no more than what was running when a lease shrank. Nothing is ever computed while a lock is held, so
a member that stops in the middle stops nobody. An allocator that writes everybody's leases would save the second step
and needs that lock.

The division has two levels. Pools come first, each with its share, as inside a process: by weighted max-min fairness a
pool gets what it wants as long as that is within its share, and whatever others leave beyond. Inside a pool it is
max-min over members, so that one of N that wants a lot has at least an N-th of the pool. Each pool keeps a part of its
share, however idle, so that its members can begin at once; what nobody wants is spread, so that they can go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.domain.fleet import Claim, Report
from broker.domain.pool import PoolName

TTL = 3.0
"""Seconds that a lease lasts without being renewed."""
INTERVAL = 1.0
"""Seconds between two renewals."""
TURN = 10.0
"""Seconds after which other members get the seats that cannot be divided evenly."""
HALF_LIFE = 3.0
"""Seconds in which a demand that is gone is half forgotten."""
ROOM = 1.05
"""A member may try a little more than it wishes, or its own limit would never grow."""


@dataclass(frozen=True, slots=True)
class Want:
    """Somebody to divide between: at most ``most``, at a rate that is relative to the others' ``weight``."""

    most: float
    weight: float = 1.0


def divide(amount: float, wants: Sequence[Want]) -> list[float]:
    """Weighted max-min fair parts of an amount: raised together, in proportion to weight, until each has its most.

    (Bertsekas and Gallager, Data Networks, section 6.5.2.) What nobody wants is left.
    """
    parts = [0.0] * len(wants)
    order = sorted(range(len(wants)), key=lambda i: wants[i].most / wants[i].weight)
    weight = sum(want.weight for want in wants)
    for i in order:
        want = wants[i]
        parts[i] = min(want.most, max(0.0, amount) * want.weight / weight)
        amount -= parts[i]
        weight -= want.weight
    return parts


def allocate(limit: float, reports: Sequence[Report], turn: int = 0) -> Mapping[str, int]:
    """The lease of every member: whole seats that add up to the limit, or to less where members cannot use more.

    Everybody gets at least one, so with more members than seats there are as many seats as members. ``turn`` decides
    who gets the seats that are left over by rounding, so that over time all do.
    """
    if not reports:
        return {}
    ordered = sorted(reports, key=lambda report: report.member)
    seats = max(math.floor(limit), len(ordered))
    parts = _spread(seats, ordered, _wanted(seats, ordered))
    return dict(zip((report.member for report in ordered), _whole(parts, turn), strict=True))


def _wanted(seats: int, reports: Sequence[Report]) -> list[float]:
    """What each member gets of the seats that are wanted."""
    pools = _pools(reports)
    total = sum(share for share, _ in pools.values())
    kept = {pool: seats * share * part / total for pool, (share, part) in pools.items()}
    serving = {pool: [_claim(report, pool) for report in reports] for pool in pools}
    wants = [
        Want(max(kept[pool], sum(claim.seats for claim in claims if claim)), pools[pool][0])
        for pool, claims in serving.items()
    ]
    result = [0.0] * len(reports)
    for (pool, claims), granted in zip(serving.items(), divide(seats, wants), strict=True):
        idle = kept[pool] / sum(claim is not None for claim in claims)
        members = [Want(max(idle, claim.seats) if claim else 0.0) for claim in claims]
        for i, part in enumerate(divide(granted, members)):
            result[i] += part
    return result


def _spread(seats: int, reports: Sequence[Report], parts: list[float]) -> list[float]:
    """Cuts the parts to what members can use, and gives the rest to those who can, by the shares of their pools."""
    caps = [max(1.0, math.ceil(report.wished * ROOM)) for report in reports]
    parts = [min(cap, part) for cap, part in zip(caps, parts, strict=True)]
    pools = _pools(reports)
    serving = {pool: sum(_claim(report, pool) is not None for report in reports) for pool in pools}
    weights = [sum(c.share / serving[c.pool] for c in r.claims if c.share > 0) or 1e-6 for r in reports]
    wants = [Want(cap - part, w) for cap, part, w in zip(caps, parts, weights, strict=True)]
    more = divide(seats - sum(parts), wants)
    return [part + extra for part, extra in zip(parts, more, strict=True)]


def _whole(parts: Sequence[float], turn: int) -> list[int]:
    """Whole numbers with the same sum, by largest remainder, each at least 1; equal remainders take turns."""
    whole = [math.floor(part + 1e-9) for part in parts]
    left = math.floor(sum(parts) + 1e-6) - sum(whole)
    count = len(parts)
    order = sorted(range(count), key=lambda i: (-round(parts[i] - whole[i], 6), (i + turn * left) % count))
    for i in order[:left]:
        whole[i] += 1
    for i in (i for i in range(count) if not whole[i]):
        richest = max(range(count), key=lambda j: (whole[j], -j))
        if whole[richest] > 1:
            whole[richest] -= 1
        whole[i] = 1
    return whole


def _pools(reports: Iterable[Report]) -> dict[PoolName, tuple[float, float]]:
    """Share and kept part of every pool that a member serves; where configurations differ, the larger ones."""
    found: dict[PoolName, tuple[float, float]] = {}
    for claim in (claim for report in reports for claim in report.claims if claim.share > 0):
        share, kept = found.get(claim.pool, (0.0, 0.0))
        found[claim.pool] = max(share, claim.share), max(kept, claim.kept)
    return dict(sorted(found.items()))


def _claim(report: Report, pool: PoolName) -> Claim | None:
    return next((claim for claim in report.claims if claim.pool is pool and claim.share > 0), None)


@dataclass(frozen=True, slots=True)
class Holding:
    """The lease of one member at one backend, and what becomes of it when the store is silent.

    ``since`` is the instant at which the lease was asked for, on the member's monotonic clock: earlier than the
    store's own, so that the member stops counting on it before others are given it. ``part`` is what it falls back to,
    see :func:`equal_part`.
    """

    seats: int
    part: int
    since: float

    def at(self, now: float) -> int:
        """Seats that may be used: the lease for its time; after that, within as long again, an equal part of all.

        All members that have lost the store move in the same time from leases that added up to the limit to parts that
        do, so that their sum stays where it was.
        """
        if not self.lapsed(now):
            return self.seats
        gone = min(1.0, (now - self.since) / TTL - 1.0)
        return max(1, math.floor(self.seats + (self.part - self.seats) * gone + 1e-9))

    def lapsed(self, now: float) -> bool:
        """Whether the lease is over."""
        return now - self.since >= TTL


def equal_part(limit: float, members: Sequence[str], own: str) -> int:
    """A member's equal part of the seats, the same in every member's reckoning: the first by name have one more."""
    seats, names = math.floor(limit), sorted(members)
    return max(1, seats // len(names) + (names.index(own) < seats % len(names)))


def decayed(before: float, demand: int, seconds: float) -> float:
    """A demand that rises at once and falls by half in :data:`HALF_LIFE`, so that leases do not follow every gap."""
    return max(float(demand), before * math.exp2(-seconds / HALF_LIFE))
