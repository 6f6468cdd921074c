"""The event loop: a heap of what will happen, one admission core or several, and the databases behind them.

The engine feeds the cores what happens (offers, ends, cancels, ticks, signals) and performs what they decide. Of events
at one instant, ends of queries come first, then wake-ups of cores, then the rest in the order in which it was planned.
Nothing is ever taken out of the heap: an event that has become void finds the state of its request changed.
"""

from __future__ import annotations

import gc
import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from operator import attrgetter

from broker.policy.admission.values import (
    AdmissionCore,
    AdmissionRequest,
    Admitted,
    Decision,
    Outcome,
    Pressure,
    Queued,
    Refused,
    Signal,
)
from broker.simulation.backends.choice import Backend, build
from broker.simulation.call import ENDED, ORPHAN, QUEUED, RUNNING, Call
from broker.simulation.clients import Source
from broker.simulation.cores import CoreFactory, configuration_of
from broker.simulation.recorder import EventLog, Recorder, cell_count
from broker.simulation.scenario import Scenario, Step

ARRIVE, LEAVE, RETRY, KILL, STEP, PRESSURE, SAMPLE, CALLBACK, END = range(9)
SEED_STEP = 1_000_003
SPINS = 10_000
"""Wake-ups without progress after which a core is stuck."""


class Engine:
    """One run, and the truth that some rivals ask for.

    ``make`` makes the core of each broker, for a seed of its own, and ``wrap`` may put something around it; requests go
    to the brokers in turn.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        make: CoreFactory,
        *,
        log: EventLog | None = None,
        wrap: Callable[[AdmissionCore], AdmissionCore] = lambda core: core,
    ) -> None:
        self.scenario = scenario
        self.now = 0.0
        self.models: list[Backend] = [build(database) for database in scenario.databases]
        self.names = [database.name for database in scenario.databases]
        self._numbers = count(1)
        cells = cell_count(scenario.ends)
        self.sources = [
            Source(index, scenario, seed, self._numbers, cells) for index in range(len(scenario.populations))
        ]
        self.recorder = Recorder(scenario)
        self._model_of = {pool: i for i, database in enumerate(scenario.databases) for pool in database.pools}
        self._models_by_source = [self.models[self._model_of[p.pool]] for p in scenario.populations]
        self._calls: dict[str, Call] = {}
        configuration = configuration_of(scenario, seed)
        self.cores = [
            wrap(make(replace(configuration, seed=seed + SEED_STEP * broker), self))
            for broker in range(scenario.brokers)
        ]
        self._wakes: list[float] = [math.inf] * scenario.brokers
        self._wake = math.inf
        self._heap: list[tuple[float, int, int, object]] = []
        self._order = count()
        self._spins = 0
        self._log = log

    def slots(self, backend: str, now: float) -> float:  # noqa: ARG002 - the truth of this instant
        """How many seats a database runs at full speed now."""
        return self.models[self.names.index(backend)].full_speed()

    def work(self, id: str) -> float:
        """True seconds on an idle database of a request that has not ended."""
        return self._calls[id].work

    def plan(self, at: float, kind: int, item: object) -> None:
        """Something will happen."""
        heapq.heappush(self._heap, (at, next(self._order), kind, item))

    def run(self) -> None:
        """Everything, from the first arrival to the end."""
        collects = gc.isenabled()
        gc.disable()  # nothing here refers to itself, and looking for what does takes a fifth of the time
        try:
            self._prepare()
            self._loop()
        finally:
            if collects:
                gc.enable()

    def _loop(self) -> None:
        heap, models, pop = self._heap, self.models, heapq.heappop
        model, several = models[0], len(models) > 1
        act: Mapping[int, Callable[..., None]] = {
            ARRIVE: self._arrive, LEAVE: self._due, RETRY: self._offer, KILL: self._kill, STEP: self._step,
            PRESSURE: self._pressure, SAMPLE: self._sample, CALLBACK: lambda item, now: item(now),
        }  # fmt: skip
        while True:
            at = heap[0][0]
            if several:
                model = min(models, key=attrgetter("next_end"))
            end, wake = model.next_end, self._wake
            if end <= at and end <= wake:
                self.now = now = end
                self._finish(model.pop(now), now)
            elif wake <= at:
                self.now = now = max(self.now, wake)
                self._tick(now)
            else:
                self.now, _, kind, item = pop(heap)
                if kind == END:
                    return
                act[kind](item, self.now)

    def _prepare(self) -> None:
        scenario = self.scenario
        for source in self.sources:
            self.plan(source.first(), ARRIVE, source)
        for step in scenario.steps:
            self.plan(step.at, STEP, step)
        for index, database in enumerate(scenario.databases):
            if database.pressure:
                self.plan(database.pressure, PRESSURE, index)
        self.plan(0.0, SAMPLE, None)
        self.plan(scenario.ends, END, None)
        for broker in range(len(self.cores)):
            self._perform((), broker, 0.0)

    def _arrive(self, source: Source, now: float) -> None:
        following = source.following(now)
        if following < math.inf:
            self.plan(following, ARRIVE, source)
        for call in (source.single(now),) if source.plain else source.arrive(now):
            self._offer(call, now)

    def _offer(self, call: Call, now: float) -> None:
        source, cores = self.sources[call.source], self.cores
        if len(cores) > 1:
            call.broker = call.number % len(cores)
        self._calls[call.id] = call
        self.recorder.offered(call)
        if self._log is not None:
            self._log.add(now, "offer", call.id)
        request = AdmissionRequest(
            call.id, call.tenant, source.pool, call.deadline, source.criticality, call.predicted,
            call.seats, call.memory, call.attempt, call.group,
        )  # fmt: skip
        self._perform(cores[call.broker].offer(request, now), call.broker, now)
        leaves = call.leaves
        if call.state != ENDED and leaves < math.inf:
            due = source.due
            if not due:
                due.append(call)
                heapq.heappush(self._heap, (leaves, next(self._order), LEAVE, due))
            elif leaves >= due[-1].leaves:
                due.append(call)
            else:
                heapq.heappush(self._heap, (leaves, next(self._order), LEAVE, deque((call,))))

    def _perform(self, decisions: Sequence[Decision], broker: int, now: float) -> None:
        calls, log = self._calls, self._log
        for decision in decisions:
            if log is not None:
                log.add(now, type(decision).__name__, decision.id)
            call = calls[decision.id]
            if isinstance(decision, Admitted):
                self._start(call, now)
            elif isinstance(decision, Queued):
                call.state = QUEUED
            elif isinstance(decision, Refused):
                self._refused(call, decision, now)
            elif call.state == RUNNING:
                self.recorder.killed(call)
                self._abandon(call, now, kills=True)
        wake, wakes = self.cores[broker].next_wakeup(), self._wakes
        wakes[broker] = math.inf if wake is None else wake
        self._wake = wakes[0] if len(wakes) == 1 else min(wakes)

    def _start(self, call: Call, now: float) -> None:
        call.state = ORPHAN if call.left else RUNNING
        call.started = now
        recorder = self.recorder
        recorder.admitted += 1
        recorder.waited += now - call.offered
        self._models_by_source[call.source].start(call, now)

    def _finish(self, call: Call, now: float) -> None:
        del self._calls[call.id]
        good = call.state == RUNNING
        self.recorder.ended(call, now, good=good)
        call.state = ENDED
        if good:
            source = self.sources[call.source]
            if source.listens:
                source.succeeded(call)
                self.recorder.reading(call, source)
        if self._log is not None:
            self._log.add(now, "end", call.id)
        outcome = Outcome.SUCCESS if good else Outcome.DROPPED
        decisions = self.cores[call.broker].finish(call.id, outcome, now - call.started, now)
        self._perform(decisions, call.broker, now)

    def _refused(self, call: Call, refused: Refused, now: float) -> None:
        del self._calls[call.id]
        call.state = ENDED
        self.recorder.refused(call, refused, now)
        if not call.left:
            self._retry(call, refused.pushback, now, timed_out=False)

    def _retry(self, call: Call, pushback: float | None, now: float, *, timed_out: bool) -> None:
        again = self.sources[call.source].retry(call, pushback, now, timed_out=timed_out)
        if again is None:
            self.recorder.given_up(call, timed_out=timed_out)
            return
        at, deadline = again
        self.plan(at, RETRY, call.again(next(self._numbers), at, deadline))

    def _due(self, due: deque[Call], now: float) -> None:
        """The first client in line for leaving may have to; most have their answer long before."""
        while due and (due[0].leaves <= now or due[0].state == ENDED):
            self._leave(due.popleft(), now)
        if due:
            heapq.heappush(self._heap, (due[0].leaves, next(self._order), LEAVE, due))

    def _leave(self, call: Call, now: float) -> None:
        """The client has gone: its deadline has passed, or its patience."""
        if call.state == ENDED or call.left:
            return
        if self._log is not None:
            self._log.add(now, "leave", call.id)
        timed_out = now >= call.deadline
        self.recorder.left(call, timed_out=timed_out)
        if timed_out:
            self._retry(call, None, now, timed_out=True)
        self._abandon(call, now, kills=self.scenario.kills)

    def _abandon(self, call: Call, now: float, *, kills: bool) -> None:
        """Nobody waits for the call any more."""
        call.left = now
        if call.state == RUNNING:
            call.state = ORPHAN
        if kills and call.state == ORPHAN and self.scenario.kill_lag:
            self.plan(now + self.scenario.kill_lag, KILL, call)
        elif kills:
            self._kill(call, now)

    def _kill(self, call: Call, now: float) -> None:
        if call.state == ENDED:
            return
        del self._calls[call.id]
        if call.state == ORPHAN:
            self._models_by_source[call.source].stop(call, now)
            self.recorder.ended(call, now, good=False)
        call.state = ENDED
        if self._log is not None:
            self._log.add(now, "cancel", call.id)
        self._perform(self.cores[call.broker].cancel(call.id, now), call.broker, now)

    def _tick(self, now: float) -> None:
        broker = self._wakes.index(self._wake)
        self._perform(self.cores[broker].tick(now), broker, now)
        self._spins = self._spins + 1 if self._wakes[broker] <= now else 0
        if self._spins > SPINS:
            raise RuntimeError(
                f"the core asks again and again to be woken at {self._wakes[broker]}, it is {now}"
            )

    def _step(self, step: Step, now: float) -> None:
        index = self.names.index(step.database)
        self.models[index].change(now, step.slots, step.speed, step.node)
        if step.signal is not None:
            self._tell(index, step.signal, now)

    def _pressure(self, index: int, now: float) -> None:
        self.plan(now + self.scenario.databases[index].pressure, PRESSURE, index)
        self._tell(index, self.models[index].pressure(), now)

    def _tell(self, index: int, news: Signal | Pressure, now: float) -> None:
        for broker, core in enumerate(self.cores):
            self._perform(core.signal(self.names[index], news, now), broker, now)

    def _sample(self, _: None, now: float) -> None:
        self.plan(now + 1.0, SAMPLE, None)
        self.recorder.sample(now, self.cores, self.models)
