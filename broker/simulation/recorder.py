"""What a run writes down while it goes: counters, and useful work by cells of five seconds."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.policy.admission.values import AdmissionCore, RefusalReason, Refused, Stage
from broker.simulation.backends.choice import Backend
from broker.simulation.call import ORPHAN, Call
from broker.simulation.clients import Source
from broker.simulation.scenario import Scenario

CELL = 5.0


@dataclass(slots=True)
class Tally:
    """One population, from the end of the warm-up. Counts are attempts, except ``requests`` and ``given_up``.

    ``latencies`` are those of answers in time, from the arrival of the request; ``waits`` of attempts that were
    admitted, ``refused_after`` of those that were not. Seat-seconds: all that were ``used``, those that were
    ``wasted`` because no answer in time came of them, and those ``orphaned`` after their client had left.
    ``groups`` count the panels of every load: offered, admitted, answered in time.
    """

    requests: int = 0
    attempts: int = 0
    good: int = 0
    good_work: float = 0.0
    late: int = 0
    left: int = 0
    killed: int = 0
    given_up: int = 0
    feasible_refused: int = 0
    used: float = 0.0
    wasted: float = 0.0
    orphaned: float = 0.0
    held: float = 0.0
    groups: dict[str, list[int]] = field(default_factory=dict)
    refusals: Counter[tuple[RefusalReason, Stage]] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    waits: array[float] = field(default_factory=lambda: array("d"))
    refused_after: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class Samples:
    """Once a second: what the brokers allow and use, and totals since the start."""

    at: array[float] = field(default_factory=lambda: array("d"))
    limit: array[float] = field(default_factory=lambda: array("d"))
    wished: array[float] = field(default_factory=lambda: array("d"))
    used: array[float] = field(default_factory=lambda: array("d"))
    queued: array[float] = field(default_factory=lambda: array("d"))
    progress: array[float] = field(default_factory=lambda: array("d"))
    done: array[float] = field(default_factory=lambda: array("d"))
    offered: array[float] = field(default_factory=lambda: array("d"))
    refused: array[float] = field(default_factory=lambda: array("d"))
    admitted: array[float] = field(default_factory=lambda: array("d"))
    waited: array[float] = field(default_factory=lambda: array("d"))
    good: array[float] = field(default_factory=lambda: array("d"))


def cell_count(seconds: float) -> int:
    """Cells that a run of that length needs."""
    return int(seconds / CELL) + 2


def book(row: list[float], work: float, begin: float, end: float) -> None:
    """Adds useful work to the cells in which it was done, evenly between its begin and its end."""
    first, last = int(begin / CELL), int(end / CELL)
    if first == last:
        row[first] += work
        return
    pace = work / (end - begin)
    row[first] += pace * ((first + 1) * CELL - begin)
    row[last] += pace * (end - last * CELL)
    for index in range(first + 1, last):
        row[index] += pace * CELL


class Recorder:
    """Told by the engine of everything that happens to requests.

    ``arrived`` and ``answered`` count requests by the second of their arrival, and those of them answered in time.
    Since the start, ``admitted`` attempts have ``waited`` so many seconds in all, and ``good_work`` seat-seconds were
    useful.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.tallies = [Tally() for _ in scenario.populations]
        self.samples = Samples()
        seconds = int(scenario.ends) + 1
        self.arrived, self.answered = [0] * seconds, [0] * seconds
        self._from, self._until = scenario.warmup, scenario.seconds
        self._offered = self._refused = 0
        self.admitted = 0
        self.waited = self.good_work = 0.0

    def offered(self, call: Call) -> None:
        """An attempt arrives."""
        self._offered += 1
        self.arrived[int(call.arrived)] += not call.attempt
        if self._from <= call.arrived < self._until:
            tally = self.tallies[call.source]
            tally.attempts += 1
            tally.requests += not call.attempt
            if call.group and not call.attempt:
                tally.groups.setdefault(call.group, [0, 0, 0])[0] += 1

    def refused(self, call: Call, refused: Refused, now: float) -> None:
        """An attempt is refused."""
        self._refused += 1
        if self._from <= call.arrived < self._until:
            tally = self.tallies[call.source]
            tally.refusals[refused.reason, refused.stage] += 1
            tally.refused_after.append(now - call.offered)

    def given_up(self, call: Call, *, timed_out: bool) -> None:
        """A request ends without an answer and is not tried again."""
        if self._from <= call.arrived < self._until:
            tally = self.tallies[call.source]
            tally.given_up += 1
            tally.feasible_refused += not timed_out and call.work <= call.deadline - call.offered

    def left(self, call: Call, *, timed_out: bool) -> None:
        """A client goes away before its answer."""
        if self._from <= call.arrived < self._until:
            tally = self.tallies[call.source]
            tally.late += timed_out
            tally.left += not timed_out

    def killed(self, call: Call) -> None:
        """The broker has ended a query that had no chance."""
        if self._from <= call.arrived < self._until:
            self.tallies[call.source].killed += 1

    def ended(self, call: Call, now: float, *, good: bool) -> None:
        """A query leaves its seats, with an answer in time or without."""
        started, seats = call.started, call.seats
        work = call.work * seats
        if good:
            cell = int(started / CELL)
            if now < (cell + 1) * CELL:
                call.row[cell] += work
            else:
                book(call.row, work, started, now)
            self.good_work += work
            self.answered[int(call.arrived)] += 1
        if self._from <= call.arrived < self._until:
            tally = self.tallies[call.source]
            tally.waits.append(started - call.offered)
            tally.used += (now - started) * seats
            if good:
                tally.good += 1
                tally.good_work += work
                tally.latencies.append(now - call.arrived)
            else:
                tally.wasted += (now - started) * seats
                if call.state == ORPHAN:
                    tally.orphaned += (now - max(call.left, started)) * seats
            if call.group:
                counts = tally.groups[call.group]
                counts[1] += 1
                counts[2] += good

    def reading(self, call: Call, source: Source) -> None:
        """A client begins to read its answer, which holds no seat."""
        if source.population.reading and self._from <= call.arrived < self._until:
            self.tallies[call.source].held += source.reading()

    def sample(self, now: float, cores: Sequence[AdmissionCore], models: Sequence[Backend]) -> None:
        """A second has passed."""
        loads = [load for core in cores for load in core.backends()]
        samples = self.samples
        samples.at.append(now)
        samples.limit.append(sum(load.limit for load in loads))
        samples.wished.append(sum(load.wished for load in loads))
        samples.used.append(sum(model.active for model in models))
        samples.queued.append(sum(pool.queue_length for core in cores for pool in core.loads()))
        samples.progress.append(min((load.progress for load in loads), default=1.0))
        samples.done.append(sum(model.done_by(now) for model in models))
        samples.offered.append(self._offered)
        samples.refused.append(self._refused)
        samples.admitted.append(self.admitted)
        samples.waited.append(self.waited)
        samples.good.append(self.good_work)


class EventLog:
    """A canonical log of everything that happened, of which only the hash is kept."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._lines: list[str] = []

    def add(self, now: float, event: str, id: str) -> None:
        """Writes an event down."""
        self._lines.append(f"{now:.9f} {event} {id}\n")
        if len(self._lines) >= 1000:
            self._flush()

    def hexdigest(self) -> str:
        """The hash so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update("".join(self._lines).encode())
        self._lines.clear()
