"""What happens to the admission core, as values: what a decision log holds and what is played again from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.domain.pool import BackendLimits, PoolLimits, PoolName, TenantLimits
from broker.domain.principal import Criticality
from broker.policy.admission.values import (
    AdmissionCore,
    AdmissionRequest,
    Decision,
    Outcome,
    Pressure,
    Signal,
)


@dataclass(frozen=True, slots=True)
class Offered:
    """A request arrived."""

    request: AdmissionRequest


@dataclass(frozen=True, slots=True)
class Finished:
    """Admitted work ended after ``seconds`` of work."""

    id: str
    outcome: Outcome
    seconds: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The caller went."""

    id: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Drained:
    """The broker began to stop."""


@dataclass(frozen=True, slots=True)
class Signalled:
    """A backend, or the machine, told something in a word."""

    backend: str
    news: Signal


@dataclass(frozen=True, slots=True)
class Pressed:
    """A backend, or the machine, told something in numbers."""

    backend: str
    news: Pressure


@dataclass(frozen=True, slots=True)
class Leased:
    """The seats of a shared backend were divided anew."""

    backend: str
    seats: int | None


@dataclass(frozen=True, slots=True)
class Charged:
    """A tenant used seat-seconds of a pool in another process."""

    pool: PoolName
    tenant: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    """Someone asked whether a tenant would be refused unseen; the answer, if any, is the only decision."""

    pool: PoolName
    tenant: str
    criticality: Criticality = Criticality.CRITICAL
    budget: float = math.inf


@dataclass(frozen=True, slots=True)
class Lost:
    """So many events are missing from the log before this one, because it could not take them in time."""

    count: int


Event = (
    Offered | Finished | Cancelled | Ticked | Drained | Signalled | Pressed | Leased | Charged | Asked | Lost
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at an instant of the monotonic clock, and the decisions that followed."""

    at: float
    event: Event
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedBackend:
    """A backend as it was configured; its limit policy follows from the mode in ``limits``."""

    name: str
    pools: tuple[PoolName, ...]
    limits: BackendLimits


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that a core is built from, so that a fresh one decides the same.

    ``monotonic`` and ``unix`` are the same instant on both clocks, in seconds: they place a log in time.
    """

    pools: Mapping[PoolName, PoolLimits]
    seed: int
    backends: tuple[RecordedBackend, ...] = ()
    tenants: Mapping[str, TenantLimits] = field(default_factory=dict)
    default_tenant: TenantLimits = field(default_factory=TenantLimits)
    monotonic: float = 0.0
    unix: float = 0.0


def apply(core: AdmissionCore, event: Event, at: float) -> tuple[Decision, ...]:
    """Tells a core what happened.

    Raises:
        KeyError, ValueError: as the core does, about ids and backends that it does not know, or knows already.
    """
    match event:
        case Offered(request):
            return core.offer(request, at)
        case Finished(id, outcome, seconds):
            return core.finish(id, outcome, seconds, at)
        case Cancelled(id):
            return core.cancel(id, at)
        case Ticked():
            return core.tick(at)
        case Drained():
            return core.drain(at)
        case Signalled(backend, news) | Pressed(backend, news):
            return core.signal(backend, news, at)
        case Leased(backend, seats):
            return core.lease(backend, seats, at)
        case Charged(pool, tenant, seconds):
            core.charge(pool, tenant, seconds, at)
            return ()
        case Asked(pool, tenant, criticality, budget):
            refused = core.refusal(pool, tenant, at, criticality, budget)
            return () if refused is None else (refused,)
        case Lost():
            return ()
