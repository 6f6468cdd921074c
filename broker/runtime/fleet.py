"""Keeps this process's leases: tells the fleet about it once a second, and its admission what it may use.

Nothing else ever waits for this task. A silent store costs no request anything but seats: the leases are kept for
their time and then become equal parts (:mod:`broker.policy.fleet_member`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fleet import Beat, Claim, MemberKind, Report
from broker.domain.pool import BackendLimits, LimitMode, PoolLimits, PoolName
from broker.domain.state import FleetMemberState, PoolState
from broker.policy.admission.values import BackendLoad
from broker.policy.fleet_member import Charges, Membership, Meter
from broker.policy.leases import INTERVAL, TTL
from broker.ports.clock import Clock
from broker.ports.fleet import FleetStore
from broker.telemetry import catalog
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading

SOON = INTERVAL / 4
"""Seconds until a member asks again that was granted too little, or has seen others come or go."""
SELDOM = 10.0
"""Seconds between two tries while somebody has to act before the store can be used."""
_LOG = logging.getLogger(__name__)


class SharedSeats(Protocol):
    """The admission whose seats are shared."""

    def backends(self) -> tuple[BackendLoad, ...]:
        """Every backend."""
        ...

    def state(self) -> tuple[PoolState, ...]:
        """Every pool with its tenants."""
        ...

    def lease(self, backend: str, seats: int | None) -> None:
        """So many seats of a backend may be used, None for no bound."""
        ...

    def charge(self, pool: PoolName, tenant: str, seconds: float) -> None:
        """A tenant has used seat-seconds elsewhere."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """Who the member is, and what it shares: ``limits`` by backend, ``pools`` of this process.

    ``expected`` processes were started together. ``portions`` tells how much of each backend belongs to these pools.
    """

    member: str
    kind: MemberKind
    host: str
    limits: Mapping[str, BackendLimits]
    pools: Mapping[PoolName, PoolLimits]
    expected: int = 1
    portions: Mapping[str, float] = field(default_factory=dict)

    def report(self, load: BackendLoad) -> Report:
        """What is told of a backend. A limit that is fixed, or only watched, is nobody's wish but the settings'."""
        limits = self.limits[load.name]
        adapts = limits.mode is LimitMode.ADAPTIVE
        return Report(
            member=self.member,
            kind=self.kind,
            host=self.host,
            running=load.seats_used,
            progress=load.progress,
            wished=load.wished if adapts else limits.seats,
            low=limits.floor if adapts else limits.seats,
            high=limits.ceiling if adapts else limits.seats,
            claims=tuple(self._claim(pool, seats) for pool, seats in load.demand),
        )

    def _claim(self, pool: PoolName, seats: int) -> Claim:
        limits = self.pools[pool]
        return Claim(pool, seats, limits.share, 1.0 - limits.lendable)


class Fleet:
    """This process as a member, while :meth:`sharing`."""

    def __init__(
        self, store: FleetStore, seats: SharedSeats, terms: Terms, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._seats = seats
        self._terms = terms
        self._clock = clock
        self._telemetry = telemetry
        self._memberships = {
            load.name: Membership(load.name, terms.expected, terms.portions.get(load.name, 1.0))
            for load in seats.backends()
            if load.demand
        }
        self._applied: dict[str, int | None] = {}
        self._counted: dict[str, int] = {}
        self._meter = Meter()
        self._charges = Charges()
        self._metered_at = clock.monotonic()
        self._pause = INTERVAL
        self._trouble: ErrorReason | None = None

    @asynccontextmanager
    async def sharing(self) -> AsyncIterator[None]:
        """Joins before the block, keeps the leases while it runs, gives them back after it.

        To join takes a moment where others hold all seats, which they share within a second or so.
        """
        forget = self._telemetry.observe(catalog.FLEET_MEMBERS, self._members)
        patience = self._clock.monotonic() + TTL
        await self._round()
        while any(m.waiting for m in self._memberships.values()) and self._clock.monotonic() < patience:
            await asyncio.sleep(self._pause)
            await self._round()
        keeping = asyncio.create_task(self._keep(), name="fleet")
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            forget()
            with suppress(BrokerError):
                await self._store.leave(self._terms.member)

    def state(self) -> tuple[FleetMemberState, ...]:
        """Every member at every backend, this one first."""
        return tuple(
            FleetMemberState(
                instance_id=leased.report.member,
                kind=leased.report.kind.value,
                host=leased.report.host,
                backend=name,
                seats=leased.seats,
                seats_used=leased.report.running,
                demand=leased.report.demand,
            )
            for name, membership in self._memberships.items()
            for leased in membership.members
        )

    def _members(self) -> list[Reading]:
        return [(len(m.members), {n.BACKEND: name}) for name, m in self._memberships.items()]

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            try:
                await self._round()
            except Exception:  # noqa: BLE001 - a bug costs what a lost store does: this task must not end
                _LOG.exception("the leases could not be renewed")
                self._pause = INTERVAL
                self._apply()

    async def _round(self) -> None:
        asked_at = self._clock.monotonic()
        beats = self._beats(asked_at)
        if not beats:
            return
        try:
            readings = await self._store.beat(beats)
        except BrokerError as error:
            self._lost(error)
        else:
            for name, reading in readings.items():
                self._memberships[name].take(reading, asked_at)
            self._found()
            self._charge()
        self._apply()

    def _beats(self, now: float) -> Sequence[Beat]:
        passed, self._metered_at = now - self._metered_at, now
        for pool in self._seats.state():
            for tenant in pool.tenants:
                if tenant.seats_used:
                    self._meter.add(pool.name, tenant.tenant, tenant.seats_used * passed, now)
        usage = self._meter.usage(now)
        beats = []
        for load in self._seats.backends():
            if load.name in self._memberships:
                report = self._terms.report(load)
                own = {claim.pool for claim in report.claims}
                told = replace(report, usage=tuple(used for used in usage if used.pool in own))
                beats.append(self._memberships[load.name].ask(told, now))
        return beats

    def _lost(self, error: BrokerError) -> None:
        for membership in self._memberships.values():
            membership.lose()
        if error.reason is not self._trouble:
            self._trouble = error.reason
            _LOG.warning("seats are not shared with other processes now: %s", error.message)
        leased = any(membership.leased for membership in self._memberships.values())
        rejected = error.reason is ErrorReason.STORE_REJECTED
        self._pause = SELDOM if rejected and not leased else INTERVAL

    def _found(self) -> None:
        self._trouble = None
        unsettled = any(membership.unsettled for membership in self._memberships.values())
        self._pause = SOON if unsettled else INTERVAL
        counted = {name: len(membership.members) for name, membership in self._memberships.items()}
        for name, count in counted.items():
            if count != self._counted.get(name, 1):
                _LOG.info("%d processes share the seats of %s", count, name)
        self._counted = counted

    def _charge(self) -> None:
        others = {
            leased.report.member: leased.report
            for membership in self._memberships.values()
            for leased in membership.members
            if leased.report.member != self._terms.member
        }
        for used in self._charges.since(others.values()):
            if used.pool in self._terms.pools:
                self._seats.charge(used.pool, used.tenant, used.seconds)

    def _apply(self) -> None:
        now = self._clock.monotonic()
        for name, membership in self._memberships.items():
            seats = membership.seats(self._terms.limits[name].seats, now)
            if seats != self._applied.get(name):
                self._applied[name] = seats
                self._seats.lease(name, seats)
