"""One member's side of the leases at one backend: what it asks for, and what it may use, also without the store.

Pure: the task that talks to the store, and a simulation, call it with their own clocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from broker.domain.fleet import Beat, Leased, Reading, Report, Usage
from broker.domain.pool import PoolName
from broker.policy.fleet_limit import extra, propose, wants_probe
from broker.policy.leases import TTL, Holding, allocate, decayed, equal_part


class Membership:
    """A member at a backend. ``expected`` is the number of processes that are started together with it.

    Alone it has no lease and is limited by its own policy only. As long as it has not heard of the fleet at all it
    takes itself for one of the expected ones. Of the seats it first asks for the ``portion`` that its pools own, so
    that brokers and workers that begin at the same moment need not wait for each other.
    """

    def __init__(self, backend: str, expected: int = 1, portion: float = 1.0) -> None:
        self._backend = backend
        self._expected = expected
        self._portion = portion
        self._reading: Reading | None = None
        self._holding: Holding | None = None
        self._missing: dict[str, tuple[Leased, float]] = {}
        self._demand: dict[PoolName, float] = {}
        self._told_at = -math.inf
        self._target = 0
        self._out = self._changed = False

    @property
    def members(self) -> tuple[Leased, ...]:
        """All members as last heard, itself first; those that were known before the store was lost have a moment."""
        known = self._reading.members if self._reading is not None else ()
        return (*known, *(leased for leased, _ in self._missing.values()))

    @property
    def leased(self) -> bool:
        """Whether it has a lease, or the rest of one."""
        return self._holding is not None

    @property
    def waiting(self) -> bool:
        """Whether it has been granted nothing, because the others have not made room yet."""
        return self._reading is not None and self._reading.seats < 1

    @property
    def unsettled(self) -> bool:
        """Whether it should soon ask again: it was granted less than it asked for, or members have come or gone."""
        return self._reading is not None and (self._changed or self._reading.seats < self._target)

    def ask(self, report: Report, now: float) -> Beat:
        """What to tell the store. Demand is what was wanted of late, so that a lease does not follow every gap."""
        report = self._smoothed(report, now)
        reading = self._reading
        others = [leased.report for leased in self.members if leased.report.member != report.member]
        reports = [report, *others]
        known = reading.limit if reading is not None else float(report.wished)
        probing = reading is not None and reading.probing
        limit = propose(known, reports, probing=probing)
        if reading is None:  # those that were started together are about to ask too
            self._target = max(1, math.floor(limit * self._portion) // self._expected)
        else:
            self._target = allocate(limit, reports, reading.turn)[report.member]
        held = reading.seats if reading is not None else 0
        wants = not probing and wants_probe(limit, reports, report, held)
        more = extra(limit)
        return Beat(
            backend=self._backend,
            report=report,
            target=self._target + (more if probing or wants else 0),
            limit=limit,
            revision=reading.revision if reading is not None else 0,
            probe=wants,
            extra=more,
        )

    def take(self, reading: Reading, asked_at: float) -> None:
        """What the store has answered to what was asked at an instant."""
        present = {leased.report.member for leased in reading.members}
        if self._out:
            # A store that has lost its rows knows nobody yet; who was there before will be back within a lease's time.
            gone = [leased for leased in self.members if leased.report.member not in present]
            self._missing = {leased.report.member: (leased, asked_at + TTL) for leased in gone}
        self._missing = {
            name: row for name, row in self._missing.items() if name not in present and row[1] > asked_at
        }
        self._out = False
        first = self._reading is None and reading.seats < math.floor(reading.limit)
        known = self._reading.members if self._reading is not None else reading.members[:1]
        self._changed = first or present != {leased.report.member for leased in known}
        self._reading = reading
        names = [leased.report.member for leased in self.members]
        whole = len(names) == 1 and reading.seats >= math.floor(reading.limit)
        part = equal_part(reading.limit, names, names[0])
        self._holding = None if whole else Holding(reading.seats, part, asked_at)

    def lose(self) -> None:
        """The store has not answered."""
        self._out = True

    def seats(self, nominal: int, now: float) -> int | None:
        """Seats that it may use, None for as many as its own policy says.

        It is never none at all: a process that comes back after its lease was given to others would refuse everything
        until they have made room.
        """
        if self._holding is not None:
            return max(1, self._holding.at(now))
        if self._reading is None and self._expected > 1:
            return max(1, nominal // self._expected)
        return None

    def lapsed(self, now: float) -> bool:
        """Whether it acts on its own because the store has been silent for too long."""
        return self._holding is not None and self._holding.lapsed(now)

    def _smoothed(self, report: Report, now: float) -> Report:
        passed = max(0.0, now - self._told_at)
        self._told_at = now
        claims = []
        for claim in report.claims:
            seats = decayed(self._demand.get(claim.pool, 0.0), claim.seats, passed)
            self._demand[claim.pool] = seats
            claims.append(replace(claim, seats=math.ceil(seats - 0.5)))
        return replace(report, claims=tuple(claims))


class Meter:
    """Counts what tenants use here, to be told to others: seat-seconds that only grow while the tenant is active."""

    def __init__(self, window: float = 10.0, most: int = 64) -> None:
        self._window = window
        self._most = most
        self._used: dict[tuple[PoolName, str], tuple[float, float]] = {}

    def add(self, pool: PoolName, tenant: str, seconds: float, now: float) -> None:
        """A tenant has used so many seat-seconds more."""
        before, _ = self._used.get((pool, tenant), (0.0, now))
        self._used[pool, tenant] = (before + seconds, now)

    def usage(self, now: float) -> tuple[Usage, ...]:
        """Those who were active within the window, the heaviest ones where there are too many."""
        self._used = {key: row for key, row in self._used.items() if now - row[1] < self._window}
        heaviest = sorted(self._used.items(), key=lambda item: (-item[1][0], item[0]))[: self._most]
        return tuple(Usage(pool, tenant, round(used, 3)) for (pool, tenant), (used, _) in heaviest)


class Charges:
    """What tenants have used at other members since the last reading, so that N processes are no N shares."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[tuple[PoolName, str], float]] = {}

    def since(self, members: Iterable[Report]) -> list[Usage]:
        """The growth of every counter. Of a member that is new nothing counts yet: its past is over."""
        seen: dict[str, dict[tuple[PoolName, str], float]] = {}
        grown: list[Usage] = []
        for report in members:
            before = self._seen.get(report.member)
            seen[report.member] = {(u.pool, u.tenant): u.seconds for u in report.usage}
            for u in report.usage if before is not None else ():
                known = before.get((u.pool, u.tenant), 0.0) if before is not None else 0.0
                more = u.seconds - known if u.seconds >= known else u.seconds  # it has begun to count anew
                if more > 0:
                    grown.append(Usage(u.pool, u.tenant, more))
        self._seen = seen
        return grown
