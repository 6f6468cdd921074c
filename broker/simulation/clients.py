"""Clients: when their requests come, what is in them, and what happens after a refusal or a timeout."""

from __future__ import annotations

import math
from bisect import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from broker.simulation.call import Call
from broker.simulation.draws import Draws, Sizes
from broker.simulation.scenario import Population, Retry, Scenario, Stage

ATTEMPTS = 3
BACKOFF = 0.1
TOKENS, TOKEN_RATIO = 100.0, 0.1
"""Retry throttling as in gRPC (proposal A6): a failure costs a token, a success returns a tenth; half must be left."""


@dataclass(slots=True)
class Budget:
    """The retry budget of one client."""

    tokens: float = TOKENS

    def failed(self) -> bool:
        """Books a failure; whether a retry is allowed."""
        self.tokens = max(0.0, self.tokens - 1.0)
        return self.tokens > TOKENS / 2

    def succeeded(self) -> None:
        """Books a success."""
        self.tokens = min(TOKENS, self.tokens + TOKEN_RATIO)


class Source:
    """One population at work. ``rows`` hold the useful work of each tenant by cell of time."""

    def __init__(self, index: int, scenario: Scenario, seed: int, numbers: Iterator[int], cells: int) -> None:
        population = scenario.populations[index]
        self.index = index
        self.population = population
        self.pool, self.criticality = population.pool, population.criticality
        self.tenants = tenant_names(population)
        self.rows: list[list[float]] = [[0.0] * cells for _ in self.tenants]
        self.budgets = [Budget() for _ in self.tenants]
        self._numbers = numbers
        self._draws = Draws(seed, population.name)
        self._timing = Draws(seed, f"{population.name}/timing")
        sizes = [
            Sizes(population.work, population.predictor, self._draws, size)
            for size in _repeat(population.sizes, self.tenants)
        ]
        self._sizes = sizes
        self._order = {tenant: index for index, tenant in enumerate(self.tenants)}
        demands = _repeat(population.demands, self.tenants)
        self._ladder = [part / sum(demands) for part in accumulate(demands)]
        self._stages = [
            s for s in sorted(scenario.stages, key=lambda s: s.at) if not s.only or population.name in s.only
        ]
        self._rate = offered_rate(population, scenario) / population.panels
        self._loads, self._period = 0, population.period
        self._now_rate, self._until = _level(self._stages, self._rate, 0.0)
        self._seats, self._memory, self._timeout = (
            population.work.seats, population.work.memory, population.timeout,
        )  # fmt: skip
        self.due: deque[Call] = deque()
        """Who leaves next, in the order of leaving; the engine's."""
        self.listens = population.retry is Retry.POLITE or population.reading > 0
        self.plain = population.panels == 1 and population.patience == math.inf and not population.period

    def first(self) -> float:
        """When the first load comes."""
        return self.following(0.0) if not self.population.period else 0.0

    def following(self, now: float) -> float:
        """When the next load comes after one that came now."""
        if self._period:
            return now + self._period
        draw = -math.log(1.0 - self._timing.uniform())
        while True:
            if now >= self._until:
                self._now_rate, self._until = _level(self._stages, self._rate, now)
            rate = self._now_rate
            if rate > 0 and now + draw / rate <= self._until:
                return now + draw / rate
            if self._until == math.inf:
                return math.inf
            draw -= rate * (self._until - now)
            now = self._until

    def arrive(self, now: float) -> list[Call]:
        """The requests that come now; those of a ``plain`` source come one by one, from :meth:`single`."""
        count = 1
        if self.population.period:
            rate, _ = _level(self._stages, self._rate, now)
            count = round(rate * self.population.period)
        return [call for _ in range(count) for call in self._load(now)]

    def retry(
        self, call: Call, pushback: float | None, now: float, *, timed_out: bool
    ) -> tuple[float, float] | None:
        """When the request is tried again and with which deadline; None when the client gives up."""
        population = self.population
        if population.retry is Retry.NAIVE:
            if call.attempt + 1 >= ATTEMPTS:
                return None
            at = now + BACKOFF * 2**call.attempt
            return at, at + population.timeout
        if population.retry is Retry.NONE or timed_out:
            return None
        allowed = self.budgets[self._order[call.tenant]].failed()
        if not allowed or pushback is None or call.attempt + 1 >= ATTEMPTS:
            return None
        at = now + pushback + BACKOFF * 2**call.attempt * self._timing.uniform()
        return (at, call.deadline) if at < call.deadline else None

    def succeeded(self, call: Call) -> None:
        """An answer came in time."""
        if self.population.retry is Retry.POLITE:
            self.budgets[self._order[call.tenant]].succeeded()

    def reading(self) -> float:
        """Seconds that a client takes to read its answer."""
        return self._timing.exponential(self.population.reading)

    def _load(self, now: float) -> list[Call]:
        self._loads += 1
        first = self.single(now)
        calls = [first]
        if self.population.panels > 1:
            tenant = self._order[first.tenant]
            calls += [self.single(now, tenant) for _ in range(self.population.panels - 1)]
            for call in calls:
                call.group = f"{self.population.name}/{self._loads}"
        if self.population.patience < math.inf:
            leaves = now + self._timing.exponential(self.population.patience)
            for call in calls:
                call.leaves = min(call.deadline, leaves)
        return calls

    def single(self, now: float, tenant: int | None = None) -> Call:
        """One request, of that tenant or of any."""
        if tenant is None:
            tenant = 0 if len(self.tenants) == 1 else bisect(self._ladder, self._timing.uniform())
        work, predicted = self._sizes[tenant].draw()
        return Call(
            next(self._numbers), self.index, self.tenants[tenant], self.rows[tenant], work, self._seats,
            self._memory, predicted, now, now + self._timeout,
        )  # fmt: skip


def tenant_names(population: Population) -> tuple[str, ...]:
    """The tenants of a population: one of its name, or several that are numbered."""
    name = population.tenants_of or population.name
    return (name,) if population.tenants == 1 else tuple(f"{name}-{i}" for i in range(population.tenants))


def offered_rate(population: Population, scenario: Scenario) -> float:
    """Requests per second that a population sends in a stage of load 1."""
    if population.rate:
        return population.rate
    tenants = range(population.tenants)
    sizes, demands = _repeat(population.sizes, tenants), _repeat(population.demands, tenants)
    size = sum(s * d for s, d in zip(sizes, demands, strict=True)) / sum(demands)
    return population.load * scenario.database_of(population.pool).slots / (population.work.mean * size)


def _repeat(values: Sequence[float], tenants: Sequence[object]) -> list[float]:
    return [values[index % len(values)] for index in range(len(tenants))]


def _level(stages: Sequence[Stage], rate: float, now: float) -> tuple[float, float]:
    """The rate of loads now, and until when it holds."""
    load, until = 1.0, math.inf
    for stage in stages:
        if stage.at <= now:
            load = stage.load
        else:
            until = stage.at
            break
    return rate * load, until
