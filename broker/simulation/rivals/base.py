"""The plumbing of every rival core: one line per backend, shared by its pools; a rival decides whom to serve.

Rivals know neither tenants nor criticality nor fairness, as the schemes that they stand for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from broker.domain.pool import BackendLimits, PoolName
from broker.domain.principal import Criticality
from broker.domain.state import PoolState
from broker.policy.admission.events import Configuration, RecordedBackend
from broker.policy.admission.limit import LimitPolicy
from broker.policy.admission.values import (
    AdmissionRequest,
    Admitted,
    BackendLoad,
    Decision,
    Outcome,
    PoolLoad,
    Pressure,
    Queued,
    RefusalReason,
    Refused,
    Signal,
    Stage,
)
from broker.simulation.rivals.line import Line, Waiter


class RivalCore:
    """An :class:`AdmissionCore` that serves whoever came first and refuses when the queue is full.

    ``limit`` makes the limit policy of each backend. A pool that no backend serves has its requests in flight as seats.
    Subclasses change :meth:`screen`, :meth:`arrive`, :meth:`choose`, :meth:`expired` and :meth:`due`.
    """

    def __init__(self, configuration: Configuration, limit: Callable[[RecordedBackend], LimitPolicy]) -> None:
        pools = configuration.pools
        served = {pool for backend in configuration.backends for pool in backend.pools}
        alone = [
            RecordedBackend(name, (name,), BackendLimits(seats=pools[name].in_flight))
            for name in pools
            if name not in served
        ]
        self._lines = [
            Line(
                backend.name,
                backend.pools,
                backend.limits.seats,
                sum(pools[name].queue for name in backend.pools),
                limit(backend),
            )
            for backend in (*configuration.backends, *alone)
        ]
        self._line_of = {pool: line for line in self._lines for pool in line.pools}
        self._of: dict[str, Line] = {}
        self._exempt: set[str] = set()
        self._draining = False

    def screen(self, line: Line, waiter: Waiter, now: float) -> Refused | None:  # noqa: ARG002 - everybody is welcome
        """Refuses a request whether seats are free or not."""
        return None

    def arrive(self, line: Line, waiter: Waiter, now: float) -> Queued | Refused:
        """A request finds no free seat: it waits, or is refused."""
        if len(line.waiting) >= line.bound:
            return self.refuse(
                line, waiter, RefusalReason.OVERLOADED, Stage.ARRIVAL, "queue", line.bound, now
            )
        return self.queue(line, waiter)

    def choose(self, line: Line, now: float) -> Waiter | None:  # noqa: ARG002 - others look at the time
        """Who is served next of those who wait."""
        return next(iter(line.waiting.values()), None)

    def expired(self, line: Line, now: float) -> Iterable[Waiter]:  # noqa: ARG002 - nobody expires here
        """Those who have waited too long."""
        return ()

    def due(self, line: Line) -> float | None:  # noqa: ARG002 - nobody expires here
        """The instant at which the next one will have waited too long."""
        return None

    def queue(self, line: Line, waiter: Waiter) -> Queued:
        """Lets a request wait until its caller goes away."""
        request = waiter.request
        line.waiting[request.id] = waiter
        self._of[request.id] = line
        return Queued(request.id, request.pool, 0.0, request.deadline_at, line.policy.limit)

    def refuse(
        self,
        line: Line,
        waiter: Waiter,
        reason: RefusalReason,
        stage: Stage,
        factor: str,
        bound: float,
        now: float,
    ) -> Refused:
        """Refuses a request, with no hint when to come back."""
        request = waiter.request
        line.refused[request.pool] += 1
        return Refused(request.id, request.pool, reason, stage, factor, bound, now - waiter.since)

    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        """A request arrives."""
        if request.id in self._of or request.id in self._exempt:
            raise ValueError(f"request {request.id!r} is already waiting or running")
        line, waiter = self._line_of[request.pool], Waiter(request, now)
        if request.exempt:
            self._exempt.add(request.id)
            return (Admitted(request.id, request.pool, 0.0, 0.0, line.policy.limit),)
        if self._draining:
            return (self.refuse(line, waiter, RefusalReason.DRAINING, Stage.ARRIVAL, "draining", 0.0, now),)
        if (refused := self.screen(line, waiter, now)) is not None:
            return (refused,)
        if not line.waiting and line.fits(waiter):
            self._of[request.id] = line
            return (self._admit(line, waiter, now),)
        return (self.arrive(line, waiter, now),)

    def _admit(self, line: Line, waiter: Waiter, now: float) -> Admitted:
        wait = line.start(waiter, now)
        return Admitted(waiter.request.id, waiter.request.pool, wait, 0.0, line.policy.limit)

    def _dispatch(self, line: Line, now: float) -> tuple[Decision, ...]:
        decisions: list[Decision] = []
        for late in list(self.expired(line, now)):
            del line.waiting[late.request.id], self._of[late.request.id]
            decisions.append(
                self.refuse(
                    line,
                    late,
                    RefusalReason.QUEUE_TIMEOUT,
                    Stage.QUEUE,
                    "wait_budget",
                    line.policy.limit,
                    now,
                )
            )
        while (waiter := self.choose(line, now)) is not None and line.fits(waiter):
            del line.waiting[waiter.request.id]
            decisions.append(self._admit(line, waiter, now))
        return tuple(decisions)

    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        """Admitted work has ended."""
        if id in self._exempt:
            self._exempt.remove(id)
            return ()
        line = self._of[id]
        line.end(id, outcome, seconds, now)
        del self._of[id]
        return self._dispatch(line, now)

    def cancel(self, id: str, now: float) -> tuple[Decision, ...]:
        """The caller has gone."""
        line = self._of.get(id)
        if line is None:
            self._exempt.discard(id)
            return ()
        if id in line.running:
            return self.finish(id, Outcome.DROPPED, now - line.running[id].since, now)
        del line.waiting[id], self._of[id]
        return self._dispatch(line, now)

    def tick(self, now: float) -> tuple[Decision, ...]:
        """Time has passed."""
        for line in self._lines:
            if (at := line.policy.next_tick()) is not None and at <= now:
                line.policy.tick(bool(line.waiting), now)
        return tuple([decision for line in self._lines for decision in self._dispatch(line, now)])

    def drain(self, now: float) -> tuple[Decision, ...]:
        """Refuses those who wait and all who come."""
        self._draining = True
        decisions: list[Decision] = []
        for line in self._lines:
            for waiter in line.waiting.values():
                del self._of[waiter.request.id]
                decisions.append(
                    self.refuse(line, waiter, RefusalReason.DRAINING, Stage.QUEUE, "draining", 0.0, now)
                )
            line.waiting.clear()
        return tuple(decisions)

    def signal(self, backend: str, news: Signal | Pressure, now: float) -> tuple[Decision, ...]:
        """Tells the limit policy; raises KeyError when there is no such backend."""
        line = next((line for line in self._lines if line.name == backend), None)
        if line is None:
            raise KeyError(backend)
        line.policy.signal(news, now)
        return self._dispatch(line, now)

    def lease(self, backend: str, seats: int | None, now: float) -> tuple[Decision, ...]:  # noqa: ARG002 - the interface
        """Changes nothing: rivals do not know of each other."""
        return ()

    def charge(self, pool: PoolName, tenant: str, seconds: float, now: float) -> None:
        """Changes nothing, for the same reason."""

    def refusal(
        self,
        pool: PoolName,  # noqa: ARG002 - the interface
        tenant: str,  # noqa: ARG002 - the interface
        now: float,  # noqa: ARG002 - the interface
        criticality: Criticality = Criticality.CRITICAL,  # noqa: ARG002 - the interface
        budget: float = math.inf,  # noqa: ARG002 - the interface
    ) -> Refused | None:
        """Nothing is refused unseen."""
        return None

    def next_wakeup(self) -> float | None:
        """The next decision of a limit policy, or the next one who will have waited too long."""
        instants = [
            at for line in self._lines for at in (line.policy.next_tick(), self.due(line)) if at is not None
        ]
        return min(instants, default=None)

    def state(self, now: float) -> tuple[PoolState, ...]:
        """Every pool."""
        return tuple(line.state(pool, now) for line in self._lines for pool in line.pools)

    def loads(self) -> tuple[PoolLoad, ...]:
        """Every pool in three numbers."""
        return tuple(
            PoolLoad(pool, line.policy.limit, line.seats_of(pool), line.length_of(pool))
            for line in self._lines
            for pool in line.pools
        )

    def backends(self) -> tuple[BackendLoad, ...]:
        """Every backend."""
        return tuple(line.load() for line in self._lines)
