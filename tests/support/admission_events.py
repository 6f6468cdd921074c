"""Random events for the admission core, and worlds in which they happen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st

from broker.domain.pool import BackendLimits, PoolLimits, PoolName, TenantLimits
from broker.domain.principal import Criticality
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import Outcome, Quantiles, Tuning
from tests.support.scheduling import Adjustable

TENANTS = ("a", "b", "c", "d")
LIMITED = "d"
"""The tenant that has limits of its own in worlds that have any."""


@dataclass(frozen=True)
class Arrive:
    tenant: int
    pool: int
    slack: float
    p50: float
    seats: float = 1.0
    memory: int = 0
    group: str = ""
    attempt: int = 0
    criticality: Criticality = Criticality.CRITICAL
    exempt: bool = False


@dataclass(frozen=True)
class End:
    """Finishes (or, without an outcome, cancels) the ``pick``-th request under way, ``factor`` off its time."""

    pick: int
    outcome: Outcome | None


@dataclass(frozen=True)
class Pass:
    """Time passes; a timer that is not ``punctual`` comes later than it should."""

    seconds: float
    punctual: bool


@dataclass(frozen=True)
class Resize:
    """The limit of the backend changes, by its policy or by a lease."""

    seats: int
    leased: bool


@dataclass(frozen=True)
class Charge:
    tenant: int
    seconds: float


@dataclass(frozen=True)
class Drain:
    pass


Event = Arrive | End | Pass | Resize | Charge | Drain


def predicted(p50: float) -> Quantiles:
    """A prediction whose geometric mean of p50 and p90, in which budgets are reckoned, is exact in binary."""
    return Quantiles(p50 / 4, p50, p50 * 4)


@dataclass(frozen=True)
class World:
    """Limits of everything. Three pools share ``seats``, the last one has seats of its own; 0 seats: all are apart."""

    seats: int
    limits: tuple[PoolLimits, ...]
    memory: int = 0
    tenant: TenantLimits = field(default_factory=TenantLimits)

    @property
    def pools(self) -> dict[PoolName, PoolLimits]:
        return dict(zip(PoolName, self.limits, strict=True))

    def scaled(self, factor: float) -> World:
        """The same world in which everything takes ``factor`` times as long."""
        limits = tuple(replace(each, reclaim=factor * each.reclaim) for each in self.limits)
        return replace(self, limits=limits, tenant=replace(self.tenant, rate=self.tenant.rate / factor))

    def core(self, scale: float = 1.0, limited: str = LIMITED) -> tuple[Scheduler, Adjustable]:
        plain = Tuning()
        tuning = Tuning(
            scale * plain.hold_after, scale * plain.hopeless_every, scale * plain.max_debt,
            scale * plain.min_pushback, scale * plain.max_pushback,
        )  # fmt: skip
        policy = Adjustable(self.seats)
        backend = BackendSpec("db", tuple(PoolName), BackendLimits(self.seats, memory=self.memory), policy)
        backends = [backend] if self.seats else []
        return Scheduler(self.pools, 1, backends, {limited: self.tenant}, tuning=tuning), policy


@dataclass(frozen=True)
class Script:
    """Events, by weight; only with known predictions, or without load groups, where that is asked for."""

    known: bool = False
    groups: bool = True
    events: st.SearchStrategy[list[Event]] = field(init=False)

    def __post_init__(self) -> None:
        p50s = [0.25, 1.0, 4.0] if self.known else [0.0, 0.25, 1.0, 4.0]
        arrivals = st.builds(
            Arrive,
            tenant=st.integers(0, 3), pool=st.sampled_from([0, 0, 0, 1, 1, 2, 3]),
            slack=st.sampled_from([0.25, 2.0, 8.0, 64.0, 1024.0]), p50=st.sampled_from(p50s),
            seats=st.sampled_from([1.0, 1.0, 1.0, 2.0, 4.0]), memory=st.sampled_from([0, 0, 0, 300, 600]),
            group=st.sampled_from(["", "", "", "g", "h"] if self.groups else [""]),
            attempt=st.sampled_from([0, 0, 1, 9]), criticality=st.sampled_from([*Criticality]),
            exempt=st.sampled_from([False] * 7 + [True]),
        )  # fmt: skip
        ends = st.builds(End, st.integers(0, 30), st.sampled_from([*Outcome, None]))
        passes = st.builds(Pass, st.sampled_from([0.25, 0.5, 2.0, 16.0]), st.booleans())
        rare = st.one_of(
            st.builds(Resize, st.integers(1, 40), st.booleans()),
            st.builds(Charge, st.integers(0, 3), st.sampled_from([1.0, 100.0])),
        )
        weighted = st.sampled_from([arrivals] * 9 + [ends, ends, passes, passes, rare])
        crowd = st.lists(weighted.flatmap(lambda kind: kind), min_size=20, max_size=80)
        after = st.lists(st.one_of(st.just(Drain()), arrivals, ends, passes), max_size=8)
        object.__setattr__(self, "events", st.builds(lambda first, rest: [*first, *rest], crowd, after))


def _limits(in_flight: st.SearchStrategy[int], shares: list[float]) -> st.SearchStrategy[PoolLimits]:
    return st.builds(
        PoolLimits,
        in_flight=in_flight, queue=st.sampled_from([0, 2, 8, 30]), connections=st.just(1), workers=st.just(1),
        wait_fraction=st.sampled_from([0.125, 0.25, 1.0]), tenant_queue=st.sampled_from([1, 4, 20]),
        share=st.sampled_from(shares), lendable=st.sampled_from([0.0, 0.5, 0.75, 1.0]),
        borrow=st.sampled_from([0.0, 2.0, float("inf")]), reclaim=st.sampled_from([0.5, 2.0, 32.0]),
        reserved=st.sampled_from([0, 0, 1, 3]), tenant_share=st.sampled_from([0.25, 0.75, 1.0]),
    )  # fmt: skip


_small, _large = st.sampled_from([1, 1, 2, 3]), st.sampled_from([2, 5, 100])
tenant_limits = st.builds(
    TenantLimits,
    weight=st.sampled_from([0.5, 1.0, 2.0]), in_flight=st.sampled_from([2.0, 5.0, float("inf")]),
    rate=st.sampled_from([0.5, 4.0, float("inf")]), burst=st.sampled_from([2.0, 10.0]),
)  # fmt: skip
_own = _limits(_small, [0.0])
apart = st.builds(World, st.just(0), st.tuples(*[_limits(_small, [1.0])] * 4), tenant=tenant_limits)
sharing = st.builds(
    World, st.sampled_from([1, 2, 3, 5, 8, 20, 40]), st.tuples(*[_limits(_large, [1.0, 2.0, 5.0])] * 3, _own),
    memory=st.sampled_from([0, 0, 1000]), tenant=tenant_limits,
)  # fmt: skip
worlds = st.one_of(apart, sharing, sharing)


def examples(count: int) -> settings:
    """So many examples; a tenth of them where mistakes are made on purpose, thousands of times."""
    few = settings.get_current_profile_name() == "mutation"
    return settings(max_examples=count // 10 if few else count, deadline=None, derandomize=True)
