"""What must hold at every event, whatever the load: a core around a core that checks it.

What is checked after each event, from what goes in and comes out of the core alone:

- time never goes back, in ``virtual`` clocks neither, and no request waits past the end of its budget;
- a request is known once, is in one state, and ends once: refused, or admitted and then ended;
- the seats in use are those of the requests that run, and grow beyond the limit never: what runs when a limit falls may
  end, and nothing more starts until there is room;
- a cancelled request has left its seats when the event is over;
- a request refused at arrival for want of time would have had to wait for longer than it may, at that instant;
- no seat is idle while a request waits that could have it: of a pool that is alone on its backend, or uses less than it
  owns, and of a tenant within its part;
- nobody is killed who does not run, and nobody is admitted or left waiting once the core drains.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.domain.state import PoolState
from broker.policy.admission.events import Configuration
from broker.policy.admission.values import (
    AdmissionCore,
    AdmissionRequest,
    Admitted,
    BackendLoad,
    Decision,
    Killed,
    Outcome,
    PoolLoad,
    Pressure,
    Queued,
    Refused,
    Signal,
    Stage,
)
from broker.simulation.seats import Seats

EPSILON = 1e-9


class InvariantError(AssertionError):
    """Something that must hold does not; the message says what, about whom and when."""


class Checked:
    """An :class:`AdmissionCore` that passes everything on and raises :class:`InvariantError` when a rule is broken.

    ``virtual`` reads clocks of the core that must not go back. With ``conserving`` false, idle seats are not looked
    for: rivals leave some.
    """

    def __init__(
        self,
        core: AdmissionCore,
        configuration: Configuration,
        *,
        virtual: Callable[[], Sequence[float]] = tuple,
        conserving: bool = True,
    ) -> None:
        self.core = core
        self.waiting: dict[str, AdmissionRequest] = {}
        self.running: dict[str, AdmissionRequest] = {}
        self.killed: set[str] = set()
        self.events = 0
        self._exempt: set[str] = set()
        self._until: list[tuple[float, str]] = []
        self._seats = Seats(configuration) if conserving else None
        pools = configuration.pools
        self._backend_of = {
            pool: backend.name
            for backend in configuration.backends
            for pool in backend.pools
            if pools[pool].share
        }
        self._now = -math.inf
        self._draining = False
        self._virtual = virtual
        self._clocks: Sequence[float] = virtual()
        self._used: Mapping[str, int] = {}

    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        """A request arrives."""
        self._fresh(request.id, now)
        idle = self._startable([request])
        if request.exempt:
            self._exempt.add(request.id)
        else:
            self.waiting[request.id] = request
        decisions = self.core.offer(request, now)
        if not decisions or decisions[0].id != request.id:
            self._fail(f"{request.id} was offered and the first decision is not about it: {decisions[:1]}")
        first = decisions[0]
        if isinstance(first, Refused) and first.limiting_factor == "wait_budget":
            if first.stage is Stage.ARRIVAL and first.expected_wait <= first.allowed_wait - EPSILON:
                self._fail(
                    f"{request.id} was refused for a wait of {first.expected_wait} s, it may: {first.allowed_wait} s"
                )
            if idle is not None:
                self._fail(f"{request.id} was refused for a wait although a seat was free for it")
        return self._after(decisions, now)

    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        """Admitted work has ended."""
        if id in self._exempt:
            self._exempt.remove(id)
        elif self.running.pop(id, None) is None:
            self._fail(f"{id} ends and was not running")
        self.killed.discard(id)
        return self._after(self.core.finish(id, outcome, seconds, now), now)

    def cancel(self, id: str, now: float) -> tuple[Decision, ...]:
        """The caller has gone."""
        self._exempt.discard(id)
        self.waiting.pop(id, None)
        self.running.pop(id, None)
        self.killed.discard(id)
        return self._after(self.core.cancel(id, now), now)

    def tick(self, now: float) -> tuple[Decision, ...]:
        """Time has passed."""
        decisions = self._after(self.core.tick(now), now)
        while self._until and self._until[0][0] <= now + EPSILON:
            _, late = heapq.heappop(self._until)
            if late in self.waiting:
                self._fail(f"{late} still waits although its time to wait is over")
        return decisions

    def drain(self, now: float) -> tuple[Decision, ...]:
        """Refuses those who wait and all who come."""
        self._draining = True
        return self._after(self.core.drain(now), now)

    def signal(self, backend: str, news: Signal | Pressure, now: float) -> tuple[Decision, ...]:
        """A backend has told something about itself."""
        return self._after(self.core.signal(backend, news, now), now)

    def lease(self, backend: str, seats: int | None, now: float) -> tuple[Decision, ...]:
        """This process may use so many seats."""
        return self._after(self.core.lease(backend, seats, now), now)

    def charge(self, pool: PoolName, tenant: str, seconds: float, now: float) -> None:
        """Books work that others did for a tenant."""
        self.core.charge(pool, tenant, seconds, now)

    def refusal(
        self,
        pool: PoolName,
        tenant: str,
        now: float,
        criticality: Criticality = Criticality.CRITICAL,
        budget: float = math.inf,
    ) -> Refused | None:
        """Whether everything of a tenant would be refused."""
        return self.core.refusal(pool, tenant, now, criticality, budget)

    def next_wakeup(self) -> float | None:
        """When to tick."""
        return self.core.next_wakeup()

    def state(self, now: float) -> tuple[PoolState, ...]:
        """Every pool with its tenants."""
        return self.core.state(now)

    def loads(self) -> tuple[PoolLoad, ...]:
        """Every pool in three numbers."""
        return self.core.loads()

    def backends(self) -> tuple[BackendLoad, ...]:
        """Every backend."""
        return self.core.backends()

    def _fresh(self, id: str, now: float) -> None:
        if id in self.waiting or id in self.running or id in self._exempt:
            self._fail(f"{id} is offered again at {now} and has not ended")

    def _after(self, decisions: tuple[Decision, ...], now: float) -> tuple[Decision, ...]:
        self.events += 1
        if now < self._now:
            self._fail(f"time went back from {self._now} to {now}")
        self._now = now
        for decision in decisions:
            self._decided(decision)
        loads = self.core.backends()
        self._check_seats(loads)
        if (idle := self._startable(self.waiting.values(), loads)) is not None:
            self._fail(f"{idle.id} of {idle.tenant} waits although seats are free for it")
        if self._draining and self.waiting:
            self._fail(f"{next(iter(self.waiting))} waits although the core drains")
        clocks = self._virtual()
        if any(later < sooner - EPSILON for sooner, later in zip(self._clocks, clocks, strict=True)):
            self._fail(f"virtual time went back from {self._clocks} to {clocks}")
        self._clocks = clocks
        return decisions

    def _startable(
        self, candidates: Iterable[AdmissionRequest], loads: Sequence[BackendLoad] | None = None
    ) -> AdmissionRequest | None:
        if self._seats is None or self._draining:
            return None
        known = self.core.backends() if loads is None else loads
        return self._seats.startable(candidates, known, self.running, self.waiting)

    def _decided(self, decision: Decision) -> None:
        about = decision.id
        if about in self._exempt:
            if not isinstance(decision, Admitted):
                self._fail(f"{about} is exempt and was not admitted: {decision}")
            return
        match decision:
            case Killed():
                if about not in self.running or about in self.killed:
                    self._fail(f"{about} is killed and does not run")
                self.killed.add(about)
            case _ if about not in self.waiting:
                self._fail(f"{about} does not wait, and is told {decision}")
            case Admitted():
                if self._draining:
                    self._fail(f"{about} is admitted although the core drains")
                self.running[about] = self.waiting.pop(about)
            case Queued(until=until):
                if until < math.inf:
                    heapq.heappush(self._until, (until, about))
            case Refused():
                del self.waiting[about]

    def _check_seats(self, loads: Sequence[BackendLoad]) -> None:
        counts: Counter[str] = Counter()
        wide: set[str] = set()
        for request in self.running.values():
            backend = self._backend_of.get(request.pool)
            if backend is not None:
                counts[backend] += 1
                if request.seats > 1:
                    wide.add(backend)
        for load in loads:
            count, used = counts[load.name], load.seats_used
            if used < count or (used > count and load.name not in wide):
                self._fail(f"{count} requests run on {load.name} in {used} seats")
            if load.seats_used > max(load.limit, self._used.get(load.name, 0)):
                self._fail(f"{load.seats_used} seats of {load.name} are used, its limit is {load.limit}")
        self._used = {load.name: load.seats_used for load in loads}

    def _fail(self, text: str) -> None:
        raise InvariantError(f"at {self._now:.6f}: {text}")
