"""What one decision of the admission core costs, with a thousand tenants and ten thousand requests that wait.

Measured is what the shell does for one request in its steady state: ``offer`` of a request that joins the queue,
``finish`` of one that runs (which starts the next), and ``next_wakeup``; every one by itself, on the wall clock and on
the thread's CPU clock, which other processes of the machine do not disturb. The limit is static, then follows the
backend with its own ticks; then three pools share the seats. The garbage collector is on and set as in the broker;
what waited before the first decision is out of its sight.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from broker.domain.pool import BackendLimits, LimitMode, PoolLimits, PoolName
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.limit import LimitPolicy, StaticLimit
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.stretch import StretchLimit
from broker.policy.admission.values import AdmissionRequest, Admitted, Decision, Outcome, Quantiles
from broker.runtime import collector
from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section

SEATS, TENANTS, QUEUED = 32, 1000, 10_000
SHARES = {PoolName.DASHBOARD: 5.0, PoolName.EXPLORATION: 3.0, PoolName.JOB: 2.0}


def main() -> None:
    harness.run("decision", __doc__, measure)


def static() -> LimitPolicy:
    return StaticLimit(SEATS)


def adaptive() -> LimitPolicy:
    return StretchLimit(BackendLimits(SEATS, mode=LimitMode.ADAPTIVE))


@dataclass
class Load:
    """A core under a backlog that stays as it is: for every request that comes, one ends."""

    pools: dict[PoolName, PoolLimits]
    policy: LimitPolicy
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    now: float = 0.0
    count: int = 0
    running: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        backend = BackendSpec("db", tuple(self.pools), BackendLimits(SEATS), self.policy)
        self.core = Scheduler(self.pools, 1, [backend])
        self._names = list(self.pools)
        while sum(load.queue_length for load in self.core.loads()) < QUEUED:
            self.note(self.core.offer(self.request(), self.now))
            self.now += 1e-4

    def request(self) -> AdmissionRequest:
        self.count += 1
        middle = self.rng.lognormvariate(-1, 1)
        return AdmissionRequest(
            str(self.count), f"tenant-{self.rng.randrange(TENANTS)}", self.rng.choice(self._names),
            self.now + 1e6, predicted=Quantiles(middle / 3, middle, 3 * middle),
        )  # fmt: skip

    def note(self, decisions: tuple[Decision, ...]) -> None:
        self.running += [decision.id for decision in decisions if isinstance(decision, Admitted)]

    def ended(self) -> str:
        """One of those that run, to end now."""
        place = self.rng.randrange(len(self.running))
        self.running[place], self.running[-1] = self.running[-1], self.running[place]
        return self.running.pop()

    def decide(self, clock: Callable[[], int]) -> float:
        """Microseconds for one request to come, one to end, and the timer to be asked for."""
        request, ended = self.request(), self.ended()
        self.now += 0.01
        core, now = self.core, self.now
        began = clock()
        first = core.offer(request, now)
        second = core.finish(ended, Outcome.SUCCESS, 0.3, now)
        core.next_wakeup()
        took = (clock() - began) / 1e3
        self.note(first)
        self.note(second)
        while (due := core.next_wakeup()) is not None and due <= now:
            self.note(core.tick(now))
        return took


def limits(share: float) -> PoolLimits:
    return PoolLimits(100, 2 * QUEUED, 100, 1, wait_fraction=0.15, share=share)


def sample(load: Load, number: int) -> tuple[list[float], list[float]]:
    """The same number of decisions on the wall clock and on the CPU clock, in turn."""
    collector.settle()
    wall, cpu = [], []
    for _ in range(number):
        wall.append(load.decide(time.perf_counter_ns))
        cpu.append(load.decide(time.thread_time_ns))
    gc.unfreeze()
    return wall, cpu


def measure(options: Options) -> Report:
    number = 5_000 if options.quick else 30_000
    alone = {PoolName.EXPLORATION: limits(1.0)}
    several = {name: limits(share) for name, share in SHARES.items()}
    cases = {"": (alone, static), "adaptive_": (alone, adaptive), "three_pools_": (several, static)}
    metrics: dict[str, float] = {}
    rows = []
    for prefix, (pools, policy) in cases.items():
        load = Load(pools, policy())
        wall, cpu = sample(load, number)
        metrics[f"{prefix}median_us"] = harness.median(wall)
        metrics[f"{prefix}p99_us"] = harness.percentile(wall, 99)
        metrics[f"{prefix}cpu_p99_us"] = harness.percentile(cpu, 99)
        name = prefix.rstrip("_") or "static"
        waiting = sum(each.queue_length for each in load.core.loads())
        for clock, values in (("wall", wall), ("cpu", cpu)):
            spread = (harness.percentile(values, percent) for percent in (50, 90, 99, 99.9))
            rows.append((name, clock, waiting, *spread, math.fsum(values) / len(values)))
    goals = {"median_us": Goal("<=", 15.0), "p99_us": Goal("<=", 50.0)}
    goals |= {
        f"{prefix}{name}": goal for prefix in ("adaptive_", "three_pools_") for name, goal in goals.items()
    }
    columns = ("limit", "clock", "waiting", "median_us", "p90_us", "p99_us", "p99.9_us", "mean_us")
    title = f"offer + finish + next_wakeup, {TENANTS:,} tenants, {number:,} decisions each"
    return Report(metrics, goals, [Section(title, columns, rows)])
