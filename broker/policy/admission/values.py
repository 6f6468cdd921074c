"""What goes into the admission core and what comes out: requests, outcomes, decisions, all frozen.

The core is a state machine that is told what happens (:class:`AdmissionCore`) and answers with decisions. It has no
clock, no randomness but a seed, and waits for nothing, so that the same events always give the same decisions, in the
broker and in a simulator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.domain.state import PoolState
from broker.policy.admission.value import value


@value
class Quantiles:
    """Predicted running time without contention, in seconds; zeros when nothing is known."""

    p10: float = 0.0
    p50: float = 0.0
    p90: float = 0.0


@value
class AdmissionRequest:
    """A request for seats in a pool.

    ``deadline_at`` is an instant of the monotonic clock (``math.inf`` for none); ``memory`` is the predicted peak in
    bytes; ``attempt`` counts earlier tries of the same call; requests of one ``load_group`` stand or fall together.
    ``exempt`` requests (control plane) take no seat and never wait.
    """

    id: str
    tenant: str
    pool: PoolName
    deadline_at: float
    criticality: Criticality = Criticality.CRITICAL
    predicted: Quantiles = Quantiles()
    seats: float = 1.0
    memory: int = 0
    attempt: int = 0
    load_group: str = ""
    exempt: bool = False


class Outcome(StrEnum):
    """How admitted work ended, as a sample of what such work takes.

    SUCCESS is a sample. IGNORED is none: the caller's fault, or no work was done. DROPPED was cut short by a deadline
    or a cancel, so it would have taken at least as long.
    """

    SUCCESS = "success"
    IGNORED = "ignored"
    DROPPED = "dropped"


class RefusalReason(StrEnum):
    """Why a request is refused; names are those of the error reasons."""

    OVERLOADED = "OVERLOADED"
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    TENANT_QUOTA = "TENANT_QUOTA"
    DRAINING = "DRAINING"


class Stage(StrEnum):
    """When a request was refused: at once, while it waited, or when its turn came."""

    ARRIVAL = "arrival"
    QUEUE = "queue"
    DISPATCH = "dispatch"


class Signal(StrEnum):
    """News of a backend that outranks everything inferred from how long queries take.

    CONNECTION_REFUSED, OUT_OF_MEMORY and REPLICA_LOST call for less; RECOVERED says that a known cause is gone.
    """

    CONNECTION_REFUSED = "connection_refused"
    OUT_OF_MEMORY = "out_of_memory"
    REPLICA_LOST = "replica_lost"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Pressure:
    """What a backend, or the machine of the broker, says about itself; None for what is not known.

    ``active`` counts backends that execute, ``lock_waiting`` and ``io_waiting`` those of them that wait; ``cpu`` and
    ``memory`` are shares in use, 0 to 1.
    """

    active: int | None = None
    lock_waiting: int | None = None
    io_waiting: int | None = None
    cpu: float | None = None
    memory: float | None = None


@value
class Admitted:
    """The request may run now, in seats of ``pool``; ``wait`` beside what was expected, ``limit`` counts seats."""

    id: str
    pool: PoolName
    wait: float
    expected_wait: float
    limit: int


@value
class Queued:
    """The request waits, until the instant ``until`` at most."""

    id: str
    pool: PoolName
    expected_wait: float
    until: float
    limit: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The request ends here.

    ``wait`` is what it waited, ``expected_wait`` what it would still have to wait, ``allowed_wait`` its budget.
    ``limiting_factor`` names what gave out, ``limit`` its bound: ``wait_budget`` (seats), ``queue`` and
    ``tenant_queue`` (requests), ``deadline`` (seconds left), ``draining``. ``pushback`` is the delay in seconds after
    which another try makes sense, None when none does.
    """

    id: str
    pool: PoolName
    reason: RefusalReason
    stage: Stage
    limiting_factor: str
    limit: float
    wait: float = 0.0
    expected_wait: float = 0.0
    allowed_wait: float = 0.0
    pushback: float | None = None


@dataclass(frozen=True, slots=True)
class Killed:
    """Admitted work is to be stopped: its chance to end in time is ``chance``, ``left`` seconds remain, others wait.

    The request still ends with one ``finish`` or ``cancel``, which frees its seats.
    """

    id: str
    pool: PoolName
    chance: float
    left: float


Decision = Admitted | Queued | Refused | Killed


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """Three numbers of a pool."""

    pool: PoolName
    seat_limit: int
    seats_used: int
    queue_length: int


@dataclass(frozen=True, slots=True)
class BackendLoad:
    """A backend: ``limit`` seats may be used now, ``wished`` is what its controller would use, ``nominal`` the setting.

    ``progress`` is the speed of queries relative to an idle backend, 0 to 1; ``memory_used`` is predicted, in bytes;
    ``demand`` counts the seats that each pool uses and waits for.
    """

    name: str
    limit: int
    wished: int
    nominal: int
    seats_used: int
    progress: float = 1.0
    memory_used: int = 0
    demand: tuple[tuple[PoolName, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Tuning:
    """Times of the core that do not belong to one pool, in seconds.

    ``hold_after``: for so long narrow requests may pass a wide one, then seats are held for it. ``hopeless_every``:
    between two looks for running work that will not end in time. ``max_debt``: seat-seconds that wrong predictions may
    put a tenant, or a pool, behind or before the others. Hints when to come back lie between the two pushbacks.
    ``group_lifetime``: a load group is remembered until the deadline of its first request, and no longer than this.
    """

    hold_after: float = 1.0
    hopeless_every: float = 0.25
    max_debt: float = 60.0
    min_pushback: float = 0.1
    max_pushback: float = 30.0
    group_lifetime: float = 300.0


class AdmissionCore(Protocol):
    """The state machine. ``now`` is the monotonic clock in seconds and never goes back.

    Every method gives the decisions that follow from the event, about the request at hand and about others. A request
    is told Admitted or Refused once, at most after one Queued; an admitted one ends with one ``finish`` or ``cancel``.
    """

    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        """A request arrives; the first decision is about it. Raises ValueError when its id is in use."""
        ...

    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        """Admitted work has ended after ``seconds`` of work. Raises KeyError when it is not running."""
        ...

    def cancel(self, id: str, now: float) -> tuple[Decision, ...]:
        """The caller has gone, whether the request waits or runs; unknown ids are ignored."""
        ...

    def tick(self, now: float) -> tuple[Decision, ...]:
        """Time has passed; call it at :meth:`next_wakeup`."""
        ...

    def drain(self, now: float) -> tuple[Decision, ...]:
        """Refuses those who wait and all who come; what runs may end. Calling it again changes nothing."""
        ...

    def signal(self, backend: str, news: Signal | Pressure, now: float) -> tuple[Decision, ...]:
        """A backend has told something about itself. Raises KeyError when there is no such backend."""
        ...

    def lease(self, backend: str, seats: int | None, now: float) -> tuple[Decision, ...]:
        """This process may use so many seats of a backend that others share; None when nobody else does."""
        ...

    def charge(self, pool: PoolName, tenant: str, seconds: float, now: float) -> None:
        """A tenant has used seat-seconds of a pool elsewhere, in another process that shares the backend."""
        ...

    def refusal(
        self,
        pool: PoolName,
        tenant: str,
        now: float,
        criticality: Criticality = Criticality.CRITICAL,
        budget: float = math.inf,
    ) -> Refused | None:
        """Why every request of the tenant would be refused now, whatever it asks; None if it may be offered.

        Decided without the request, so that it need not be decoded; the id of the refusal is empty. ``budget`` is
        what it may wait at the very most, in seconds.
        """
        ...

    def next_wakeup(self) -> float | None:
        """The instant by which :meth:`tick` has something to decide, or None."""
        ...

    def state(self, now: float) -> tuple[PoolState, ...]:
        """Every pool with its tenants; connections and workers are not known here and left 0."""
        ...

    def loads(self) -> tuple[PoolLoad, ...]:
        """Every pool in three numbers. Safe to call from another thread than the one that feeds events."""
        ...

    def backends(self) -> tuple[BackendLoad, ...]:
        """Every backend. Safe to call from another thread than the one that feeds events."""
        ...
