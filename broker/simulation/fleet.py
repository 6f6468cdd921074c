"""Several brokers that share a database by leases: the members and the store of the real thing on the virtual clock."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from broker.domain.fleet import MemberKind, Report
from broker.policy.fleet_ledger import Ledger
from broker.policy.fleet_member import Charges, Membership, Meter
from broker.policy.leases import INTERVAL
from broker.runtime.fleet import Terms
from broker.simulation.call import RUNNING, Call
from broker.simulation.cores import CoreFactory, configuration_of
from broker.simulation.engine import CALLBACK, Engine
from broker.simulation.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Outage:
    """The store does not answer from ``begin`` to ``end``, and may have lost everything then."""

    begin: float
    end: float
    forgets: bool = False

    def holds(self, now: float) -> bool:
        """Whether it is away."""
        return self.begin <= now < self.end


class Member:
    """One broker of a simulated fleet, at one database."""

    def __init__(self, broker: int, terms: Terms, backend: str) -> None:
        self.broker = broker
        self.terms = terms
        self.backend = backend
        self.membership = Membership(backend, terms.expected)
        self.meter = Meter()
        self.charges = Charges()


class FleetEngine(Engine):
    """An engine whose brokers hold leases. Each renews its own once a second, at a moment of its own.

    ``work`` is the useful work by broker, ``most`` the most seats that were in use at once since ``watch_from``.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        make: CoreFactory,
        outage: Outage | None = None,
        watch_from: float = 0.0,
    ) -> None:
        super().__init__(scenario, seed, make)
        backends = configuration_of(scenario, seed).backends
        limits = {backend.name: backend.limits for backend in backends}
        self.useful: dict[int, float] = defaultdict(float)
        self.most = 0
        self._watch_from = watch_from
        self._ledger = Ledger()
        self._outage = outage
        self._fleet = [
            Member(
                broker,
                Terms(
                    f"broker-{broker:03}", MemberKind.BROKER, "host", limits, scenario.pools, scenario.brokers
                ),
                backend.name,
            )
            for broker in range(scenario.brokers)
            for backend in backends
        ]

    def _prepare(self) -> None:
        super()._prepare()
        for member in self._fleet:
            self._beat(member, 0.0)  # brokers join before they serve
            self._renew(member, INTERVAL * (1 + member.broker / len(self.cores)))
        if self._outage is not None and self._outage.forgets:
            self.plan(self._outage.end, CALLBACK, lambda _: self._ledger.forget())

    def _renew(self, member: Member, at: float) -> None:
        def beat(now: float) -> None:
            self._beat(member, now)
            self._renew(member, now + INTERVAL)

        self.plan(at, CALLBACK, beat)

    def _beat(self, member: Member, now: float) -> None:
        core, membership = self.cores[member.broker], member.membership
        load = next(load for load in core.backends() if load.name == member.backend)
        asked = membership.ask(self._report(member, member.terms.report(load), now), now)
        if self._outage is not None and self._outage.holds(now):
            membership.lose()
        else:
            reading = self._ledger.beat(asked, now)
            membership.take(reading, now)
            for used in member.charges.since(leased.report for leased in reading.members[1:]):
                core.charge(used.pool, used.tenant, used.seconds, now)
        seats = membership.seats(load.nominal, now)
        self._perform(core.lease(member.backend, seats, now), member.broker, now)

    def _report(self, member: Member, report: Report, now: float) -> Report:
        for pool in self.cores[member.broker].state(now):
            for tenant in pool.tenants:
                if tenant.seats_used:
                    member.meter.add(pool.name, tenant.tenant, tenant.seats_used * INTERVAL, now)
        return replace(report, usage=member.meter.usage(now))

    def _start(self, call: Call, now: float) -> None:
        super()._start(call, now)
        if now >= self._watch_from:
            self.most = max(self.most, sum(model.active for model in self.models))

    def _finish(self, call: Call, now: float) -> None:
        if call.state == RUNNING and now >= self._watch_from:
            self.useful[call.broker] += call.work * call.seats
        super()._finish(call, now)
