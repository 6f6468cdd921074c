"""Short words for asking the admission core and reading its decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.domain.pool import BackendLimits, PoolLimits, PoolName, TenantLimits
from broker.domain.principal import Criticality
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import (
    AdmissionRequest,
    Admitted,
    Decision,
    Killed,
    Outcome,
    Pressure,
    Quantiles,
    Refused,
    Signal,
    Tuning,
)

DASHBOARD = PoolName.DASHBOARD
EXPLORATION = PoolName.EXPLORATION
JOB = PoolName.JOB
UNKNOWN = Quantiles()


def takes(seconds: float) -> Quantiles:
    """A prediction without spread, whose mean is the median."""
    return Quantiles(seconds, seconds, seconds)


def scheduler(in_flight: int = 1, queue: int = 10, tenant_queue: int = 10, wait: float = 0.25) -> Scheduler:
    limits = PoolLimits(in_flight, queue, 1, 1, wait_fraction=wait, tenant_queue=tenant_queue)
    other = PoolLimits(1, 10, 1, 1)
    return Scheduler({DASHBOARD: limits, PoolName.ADMIN: other}, seed=7)


def ask(
    id: str,
    tenant: str = "a",
    deadline: float = 10.0,
    predicted: Quantiles = UNKNOWN,
    pool: PoolName = DASHBOARD,
    *,
    exempt: bool = False,
    criticality: Criticality = Criticality.CRITICAL,
    seats: float = 1.0,
    memory: int = 0,
    attempt: int = 0,
    group: str = "",
) -> AdmissionRequest:
    return AdmissionRequest(
        id, tenant, pool, deadline, criticality, predicted, seats, memory, attempt, group, exempt
    )


def limits(
    in_flight: int = 100,
    *,
    queue: int = 100,
    tenant_queue: int = 100,
    wait: float = 0.25,
    share: float = 1.0,
    lendable: float = 1.0,
    borrow: float = float("inf"),
    reclaim: float = 2.0,
    reserved: int = 0,
    tenant_share: float = 1.0,
) -> PoolLimits:
    """Limits of a pool that shares a backend; without guards and caps unless they are asked for."""
    return PoolLimits(
        in_flight, queue, 1, 1, wait_fraction=wait, tenant_queue=tenant_queue, share=share, lendable=lendable,
        borrow=borrow, reclaim=reclaim, reserved=reserved, tenant_share=tenant_share,
    )  # fmt: skip


@dataclass
class Adjustable:
    """A limit policy that offers what it is told, ticks when it is told to, and notes what it hears."""

    limit: int
    progress: float = 1.0
    due: float | None = None
    heard: list[tuple[object, ...]] = field(default_factory=list)

    @property
    def wished(self) -> int:
        return self.limit

    def started(self, id: str, predicted: float, seats: int, now: float) -> None:
        self.heard.append(("started", id, predicted, seats, now))

    def ended(self, id: str, outcome: Outcome, seconds: float, now: float) -> None:
        self.heard.append(("ended", id, outcome, seconds, now))

    def tick(self, waiting: bool, now: float) -> None:
        self.heard.append(("tick", waiting, now))

    def next_tick(self) -> float | None:
        return self.due

    def signal(self, news: Signal | Pressure, now: float) -> None:
        self.heard.append(("signal", news, now))


def shared(
    seats: int,
    pools: Mapping[PoolName, PoolLimits],
    *,
    memory: int = 0,
    tenants: Mapping[str, TenantLimits] | None = None,
    tuning: Tuning | None = None,
    policy: Adjustable | None = None,
) -> Scheduler:
    """A core with one backend, ``db``, that all the pools share."""
    spec = BackendSpec("db", tuple(pools), BackendLimits(seats, memory=memory), policy or Adjustable(seats))
    return Scheduler(pools, 7, [spec], tenants, tuning=tuning or Tuning())


def only(decisions: tuple[Decision, ...]) -> Decision:
    assert len(decisions) == 1
    return decisions[0]


def refused(decisions: tuple[Decision, ...]) -> Refused:
    decision = decisions[-1]
    assert isinstance(decision, Refused)
    return decision


def admitted_ids(decisions: tuple[Decision, ...]) -> list[str]:
    return [d.id for d in decisions if isinstance(d, Admitted)]


def killed_ids(decisions: tuple[Decision, ...]) -> list[str]:
    return [d.id for d in decisions if isinstance(d, Killed)]


def offer_all(core: Scheduler, requests: list[AdmissionRequest], now: float = 0.0) -> list[Decision]:
    """Offers one after another and collects what was decided about each at once."""
    return [core.offer(request, now)[0] for request in requests]


def drain_order(core: Scheduler, running: list[str], seconds: float, now: float = 0.0) -> list[str]:
    """Ends what runs, one at a time from the front, after ``seconds`` of work each; the order in which others start."""
    order: list[str] = []
    running = list(running)
    while running:
        now += seconds
        started = admitted_ids(core.finish(running.pop(0), Outcome.SUCCESS, seconds, now))
        order += started
        running += started
    return order
