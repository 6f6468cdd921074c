"""Looks over the shoulder of a core: what it is told and what it decides, as values."""

from __future__ import annotations

import math
from collections.abc import Callable

from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.domain.state import PoolState
from broker.policy.admission.events import (
    Asked,
    Cancelled,
    Charged,
    Drained,
    Entry,
    Event,
    Finished,
    Leased,
    Offered,
    Pressed,
    Signalled,
    Ticked,
    apply,
)
from broker.policy.admission.values import (
    AdmissionCore,
    AdmissionRequest,
    BackendLoad,
    Decision,
    Outcome,
    PoolLoad,
    Pressure,
    Refused,
    Signal,
)


class ObservedCore:
    """An :class:`AdmissionCore` that tells ``told`` of every event and its decisions, after another has made them.

    An event that the core rejects with an exception changes nothing and is not told.
    """

    def __init__(self, core: AdmissionCore, told: Callable[[Entry], object]) -> None:
        self._core = core
        self._told = told

    def _tell(self, event: Event, now: float) -> tuple[Decision, ...]:
        decisions = apply(self._core, event, now)
        self._told(Entry(now, event, decisions))
        return decisions

    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        """A request arrives."""
        return self._tell(Offered(request), now)

    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        """Admitted work has ended."""
        return self._tell(Finished(id, outcome, seconds), now)

    def cancel(self, id: str, now: float) -> tuple[Decision, ...]:
        """The caller has gone."""
        return self._tell(Cancelled(id), now)

    def tick(self, now: float) -> tuple[Decision, ...]:
        """Time has passed."""
        return self._tell(Ticked(), now)

    def drain(self, now: float) -> tuple[Decision, ...]:
        """Nobody is to wait any more."""
        return self._tell(Drained(), now)

    def signal(self, backend: str, news: Signal | Pressure, now: float) -> tuple[Decision, ...]:
        """A backend has told something about itself."""
        if isinstance(news, Signal):
            return self._tell(Signalled(backend, news), now)
        return self._tell(Pressed(backend, news), now)

    def lease(self, backend: str, seats: int | None, now: float) -> tuple[Decision, ...]:
        """Seats of a shared backend are divided anew."""
        return self._tell(Leased(backend, seats), now)

    def charge(self, pool: PoolName, tenant: str, seconds: float, now: float) -> None:
        """A tenant has used seat-seconds elsewhere."""
        self._tell(Charged(pool, tenant, seconds), now)

    def refusal(
        self,
        pool: PoolName,
        tenant: str,
        now: float,
        criticality: Criticality = Criticality.CRITICAL,
        budget: float = math.inf,
    ) -> Refused | None:
        """Why every request of the tenant would be refused now. Told too: it may draw a random hint."""
        for decision in self._tell(Asked(pool, tenant, criticality, budget), now):
            assert isinstance(decision, Refused)
            return decision
        return None

    def next_wakeup(self) -> float | None:
        """The instant by which the core has something to decide."""
        return self._core.next_wakeup()

    def state(self, now: float) -> tuple[PoolState, ...]:
        """Every pool with its tenants."""
        return self._core.state(now)

    def loads(self) -> tuple[PoolLoad, ...]:
        """Every pool in three numbers."""
        return self._core.loads()

    def backends(self) -> tuple[BackendLoad, ...]:
        """Every backend."""
        return self._core.backends()
