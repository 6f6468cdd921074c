"""A processor-sharing database behind a limit policy, on virtual time: the loop that a limit controller lives in."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from broker.policy.admission.limit import LimitPolicy
from broker.policy.admission.values import Outcome

THRASH = 0.25
"""Throughput falls by this part of the excess over full-speed slots."""


@dataclass(frozen=True, slots=True)
class Load:
    """Queries offered: ``factor`` times what the database can do, log-normal of median ``median`` seconds.

    ``sigma`` is of their work in all, ``error`` the part of it that the prediction does not know; predictions are
    ``bias`` times too high. ``calibrated`` ones are conditional means: the work scatters around the prediction. The
    others scatter around the work, so that whoever selects by prediction selects those that are too low.
    """

    factor: float = 3.0
    median: float = 1.0
    sigma: float = 1.2
    error: float = 0.5
    bias: float = 1.0
    calibrated: bool = True
    deadline: float = 20.0
    wait: float = 0.15

    @property
    def mean_work(self) -> float:
        return self.median * math.exp(self.sigma**2 / 2)

    def draw(self, random: Random) -> tuple[float, float]:
        """Work in seconds, and what it is predicted to be."""
        if self.calibrated:
            known = self.median * math.exp(random.gauss(0.0, math.sqrt(self.sigma**2 - self.error**2)))
            return known * math.exp(random.gauss(0.0, self.error)), known * self.bias
        work = self.median * math.exp(random.gauss(0.0, self.sigma))
        return work, work * math.exp(random.gauss(0.0, self.error)) * self.bias


@dataclass(slots=True)
class Query:
    id: str
    work: float
    predicted: float
    deadline_at: float
    until: float
    done_at: float = 0.0
    since: float = 0.0
    running: bool = False


@dataclass(slots=True)
class Phase:
    """What happened while the capacity was the same: means over the phase, without its first ``skip`` seconds."""

    capacity: float
    begin: float
    end: float
    limits: list[float] = field(default_factory=list)
    done: float = 0.0
    offered: int = 0
    settled: float = math.inf
    skip: float = 60.0

    @property
    def goodput(self) -> float:
        return self.done / (self.capacity * (self.end - self.begin - self.skip))

    @property
    def mean(self) -> float:
        return sum(self.limits) / len(self.limits)

    @property
    def deviation(self) -> float:
        """Standard deviation of the limit as a share of the capacity."""
        mean = self.mean
        return math.sqrt(sum((x - mean) ** 2 for x in self.limits) / len(self.limits)) / self.capacity


class SharedDatabase:
    """Runs a policy through phases of capacity. One queue, a wait budget, whole seats; no retries."""

    def __init__(self, policy: LimitPolicy, load: Load, seed: int) -> None:
        self.policy, self.load, self.random = policy, load, Random(seed)
        self.now = self.virtual = 0.0
        self.capacity = 0.0
        self.running: dict[str, Query] = {}
        self.ends: list[tuple[float, str]] = []
        self.deadlines: list[tuple[float, str]] = []
        self.queue: deque[Query] = deque()
        self.backlog = 0.0
        self.count = 0

    @property
    def rate(self) -> float:
        """Speed of each query."""
        n = len(self.running)
        if n <= self.capacity:
            return 1.0
        thrash = max(0.1, 1.0 - THRASH * (n / self.capacity - 1.0))
        return self.capacity / n * thrash

    def run(self, phases: Sequence[Phase]) -> Sequence[Phase]:
        arrival = 0.0
        for phase in phases:
            self._move(phase.begin)
            self.capacity = phase.capacity
            rate = self.load.factor * max(p.capacity for p in phases) / self.load.mean_work
            look = self.now
            while True:
                end = self.now + (self.ends[0][0] - self.virtual) / self.rate if self.ends else math.inf
                late = self.deadlines[0][0] if self.deadlines else math.inf
                tick = self.policy.next_tick()
                tick = math.inf if tick is None else max(tick, self.now)
                at = min(arrival, end, late, tick, look, phase.end)
                self._move(at)
                if at == phase.end:
                    break
                if at == end:
                    query = self.running.get(heapq.heappop(self.ends)[1])
                    if query is not None:
                        self._stop(query, Outcome.SUCCESS)
                        if at >= phase.begin + phase.skip:
                            phase.done += query.work
                elif at == late:
                    query = self.running.get(heapq.heappop(self.deadlines)[1])
                    if query is not None:
                        self._stop(query, Outcome.DROPPED)
                elif at == arrival:
                    self._arrive()
                    arrival = self.now + self.random.expovariate(rate)
                elif at == tick:
                    self.policy.tick(bool(self.queue), at)
                else:
                    look += 0.5
                    self._look(phase)
                self._dispatch()
        return phases

    def _look(self, phase: Phase) -> None:
        limit = self.policy.limit
        since = self.now - phase.begin
        if abs(limit / phase.capacity - 1.0) <= 0.25:
            phase.settled = min(phase.settled, since)
        if since >= phase.skip:
            phase.limits.append(limit)

    def _move(self, at: float) -> None:
        self.virtual += (at - self.now) * self.rate
        self.now = at

    def _arrive(self) -> None:
        work, predicted = self.load.draw(self.random)
        budget = self.load.wait * (self.load.deadline - predicted)
        speed = max(1, self.policy.limit) * self.policy.progress
        full = len(self.running) >= self.policy.limit or bool(self.queue)
        if budget <= 0.0 or (full and (self.backlog + predicted / 2) / speed > budget):
            return
        self.count += 1
        self.queue.append(
            Query(f"q{self.count}", work, predicted, self.now + self.load.deadline, self.now + budget)
        )
        self.backlog += predicted

    def _dispatch(self) -> None:
        while self.queue and len(self.running) < self.policy.limit:
            query = self.queue.popleft()
            self.backlog -= query.predicted
            if self.now > query.until:
                continue
            query.since, query.done_at = self.now, self.virtual + query.work
            self.running[query.id] = query
            heapq.heappush(self.ends, (query.done_at, query.id))
            heapq.heappush(self.deadlines, (query.deadline_at, query.id))
            self.policy.started(query.id, query.predicted, 1, self.now)

    def _stop(self, query: Query, outcome: Outcome) -> None:
        del self.running[query.id]
        self.policy.ended(query.id, outcome, self.now - query.since, self.now)
