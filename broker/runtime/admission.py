"""The asynchronous shell of the admission core: feeds it events, wakes waiters, keeps its timer, tells telemetry.

All of it runs on one event loop and every event is handled in one go, so there is nothing to lock. A request that is
cancelled at any point is reported to the core, which knows by itself whether it waited or already held its seats.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import replace

from broker.domain.errors import BrokerError
from broker.domain.pool import PoolName
from broker.domain.principal import Criticality, Principal
from broker.domain.state import PoolState
from broker.policy.admission.refusals import refusal_error
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
    Refused,
    Signal,
)
from broker.policy.brownout import Standing
from broker.ports.clock import Clock
from broker.runtime.permits import Permission, Permit
from broker.runtime.told import Told
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

MIN_TIMER = 0.001
"""Shortest timer in seconds: loops count in milliseconds, and a timer may come a little early."""
SAME_WORDS = 0.25
"""Seconds for which refusals at the door that are alike are told in the same words, with the same numbers."""
WAIT_BUDGET = "wait_budget"
"""The factor of a refusal for a wait that is too long."""
SEATS = frozenset({WAIT_BUDGET, "tenant_in_flight"})
"""Factors of refusals that do not concern requests without a seat."""
_LEVELS = {level: level.name.lower() for level in Criticality}
MOST_WORDS = 1024
"""Errors that are remembered at once."""


class Admission:
    """Permits for the executor pools."""

    def __init__(self, core: AdmissionCore, clock: Clock, telemetry: Telemetry) -> None:
        self._core = core
        self._clock = clock
        self._telemetry = telemetry
        self._waiting: dict[str, asyncio.Future[Admitted | Refused]] = {}
        self._held: dict[str, Permit] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._draining = False
        self._told = Told(core, telemetry)
        self._standing = Standing()
        self._words: dict[tuple[PoolName, str, str, float], tuple[float, BrokerError]] = {}

    def permit(self, request: AdmissionRequest) -> Permission:
        """The seats for a request, as an async context; entering it waits.

        Raises:
            BrokerError: OVERLOADED, QUEUE_TIMEOUT, DEADLINE_TOO_SHORT, TENANT_QUOTA or DRAINING, on entering.
        """
        return Permission(self, request)

    async def enter(self, request: AdmissionRequest) -> Permit:
        """Waits for the seats; use :meth:`permit`, which gives them back."""
        pool, level = str(request.pool), _LEVELS[request.criticality]
        attributes = {n.POOL: pool, n.CRITICALITY: level}
        with self._telemetry.span(SpanName.QUEUE, attributes=attributes) as span:
            arrived = self._clock.monotonic()
            verdict, reason = "cancelled", ""
            try:
                decision = await self._decide(request, arrived)
                if isinstance(decision, Refused):
                    verdict, reason = "refused", decision.reason.value
                    self._told.refused(request, decision, span, self._clock.monotonic())
                    raise refusal_error(decision, self._told.standing(request.pool, request.tenant))
                verdict = "admitted"
                self._told.admitted(request, decision, span, self._clock.monotonic())
            finally:
                now = self._clock.monotonic()
                if span.is_recording():
                    span.set_attributes({n.VERDICT: verdict, n.QUEUE_SECONDS: now - arrived})
                self._telemetry.admission(pool, level, verdict, reason)
                self._telemetry.queue_wait(pool, verdict, now - arrived)
        self._telemetry.deadline_remaining(pool, max(0.0, request.deadline_at - now))
        permit = Permit(request, decision, now, self._finish)
        self._held[request.id] = permit
        self._idle.clear()
        return permit

    async def _decide(self, request: AdmissionRequest, now: float) -> Admitted | Refused:
        first, *others = self._core.offer(request, now)
        if isinstance(first, Admitted | Refused):
            self._perform(others)
            return first
        future = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = future
        try:
            self._perform(others)
            decision: Admitted | Refused = await future
        except BaseException:
            # The decision may have been made already and not been seen: the core knows whether seats are to be freed.
            self._perform(self._core.cancel(request.id, self._clock.monotonic()))
            raise
        finally:
            del self._waiting[request.id]
        return decision

    def _finish(self, permit: Permit, outcome: Outcome, seconds: float | None) -> None:
        now = self._clock.monotonic()
        held = now - permit.since
        del self._held[permit.decision.id]
        if not self._held:
            self._idle.set()
        self._told.ended(permit.request, permit.pool, "killed" if permit.killed else str(outcome), held, now)
        self._perform(
            self._core.finish(permit.decision.id, outcome, held if seconds is None else seconds, now)
        )

    def _perform(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Killed):
                self._kill(decision)
                continue
            future = self._waiting.get(decision.id)
            if future is not None and not future.done() and isinstance(decision, Admitted | Refused):
                future.set_result(decision)
        self._arm()

    def _kill(self, killed: Killed) -> None:
        permit, now = self._held.get(killed.id), self._clock.monotonic()
        if permit is not None:
            self._told.killed(permit.request, killed, now - permit.since, now)
            permit.kill(killed, now)

    def _arm(self) -> None:
        wakeup = self._core.next_wakeup()
        if wakeup == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = wakeup
        self._timer = None
        if wakeup is not None:
            delay = max(MIN_TIMER, wakeup - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        self._perform(self._core.tick(self._clock.monotonic()))

    def refusal(self, pool: PoolName, tenant: str) -> Refused | None:
        """Why every request of the tenant would be refused now, whatever it asks; None if it may ask."""
        return self._core.refusal(pool, tenant, self._clock.monotonic())

    def strain(self, pool: PoolName, principal: Principal, budget: float) -> float:
        """Expected wait of a request of the caller over ``budget``, what it may wait; 0 while it is below a half.

        And 0 up to the whole while the queue of the pool does not stand; from there on the request would be refused.
        Every request of the tenant is asked about, whatever it asks, as at the door; nothing is counted.
        """
        now = self._clock.monotonic()
        loads = self._core.loads() if self._waiting else ()  # whoever is in a queue waits here
        waiting = next((load.queue_length for load in loads if load.pool is pool), 0)
        stands = self._standing.stands(pool, waiting, now)
        refused = self._core.refusal(pool, principal.tenant, now, principal.criticality, budget / 2)
        if refused is None or refused.limiting_factor != WAIT_BUDGET:
            return 0.0
        strain = refused.expected_wait / budget if budget > 0.0 else math.inf
        return strain if stands or strain >= 1.0 else 0.0

    def turn_away(
        self, pool: PoolName, principal: Principal, budget: float, *, seatless: bool = False
    ) -> BrokerError | None:
        """The error for a caller whose request has not been read and would be refused, counted as a refusal.

        ``budget`` is what it may wait at the very most, in seconds; ``seatless`` requests may be answered without a
        seat, so that only draining and the tenant's rate keep them out. Refusals of a tenant within a moment are one
        error, so that its words are found once: every decision is made anew, but the numbers may be a moment old.
        """
        now, tenant = self._clock.monotonic(), principal.tenant
        refused = self._core.refusal(pool, tenant, now, principal.criticality, budget)
        if refused is None or (seatless and refused.limiting_factor in SEATS):
            return None
        self.turned_away(pool, principal, refused.reason.value, refused.limiting_factor)
        key = pool, tenant, refused.limiting_factor, round(refused.allowed_wait, 1)
        until, error = self._words.get(key, (now, None))
        if error is None or now >= until:
            error = refusal_error(refused, self._told.standing(pool, tenant))
            if len(self._words) >= MOST_WORDS:
                self._words.clear()
            self._words[key] = now + SAME_WORDS, error
        return error

    def turned_away(self, pool: PoolName, principal: Principal, reason: str, factor: str) -> None:
        """A request was refused by somebody else before it was read."""
        self._told.unread(pool, principal.criticality.name.lower(), reason, factor)

    def signal(self, backend: str, news: Signal | Pressure) -> None:
        """A backend has told something about itself.

        Raises:
            KeyError: There is no such backend.
        """
        self._perform(self._core.signal(backend, news, self._clock.monotonic()))

    def lease(self, backend: str, seats: int | None) -> None:
        """This process may use so many seats of a backend, None for no bound; what runs beyond them may end.

        Raises:
            KeyError: There is no such backend.
        """
        self._perform(self._core.lease(backend, seats, self._clock.monotonic()))

    def charge(self, pool: PoolName, tenant: str, seconds: float) -> None:
        """A tenant has used seat-seconds of a pool in another process that shares the backend."""
        self._core.charge(pool, tenant, seconds, self._clock.monotonic())

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    def drain(self) -> None:
        """Refuses those who wait and all who come; permits that are out stay valid."""
        self._draining = True
        self._perform(self._core.drain(self._clock.monotonic()))

    async def idle(self) -> None:
        """Waits until no permit is out."""
        await self._idle.wait()

    def state(self) -> tuple[PoolState, ...]:
        """Every pool with its tenants; refusals at the door are counted too."""
        return tuple(
            replace(pool, refused_count=pool.refused_count + self._told.unread_count[pool.name])
            for pool in self._core.state(self._clock.monotonic())
        )

    def loads(self) -> tuple[PoolLoad, ...]:
        """Every pool in three numbers."""
        return self._core.loads()

    def backends(self) -> tuple[BackendLoad, ...]:
        """Every backend in numbers."""
        return self._core.backends()

    def close(self) -> None:
        """Ends the timer and the gauges; call it when no permit is out and nobody waits."""
        self._told.close()
        if self._timer is not None:
            self._timer.cancel()
