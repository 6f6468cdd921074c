"""Guesses from a recorded load what kind of database ran it: how many queries at full speed, and the work of each.

The model is processor sharing with thrash. Of all numbers of slots the one is taken that explains best why queries took
longer than predicted: without the slowdown that it implies, their times scatter least around the predictions, which are
corrected by what they are wrong by while few queries run. A database that was never full tells nothing about its slots;
then it is taken at the word of the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from broker.domain.pool import BackendLimits, PoolName
from broker.policy.admission.events import Configuration, RecordedBackend
from broker.policy.admission.values import Outcome
from broker.simulation.trace import Arrival, Trace

THRASH = 0.25
STEP = 0.93
"""Ratio of two numbers of slots that are tried, which is about as fine as scatter can tell."""
SAMPLES = 50
"""Queries that must have been predicted and have ended before anything is concluded from them."""
MOST = 20_000
"""Queries, the latest ones, that the slots are told from."""
GAIN = 0.02
"""Part of the scatter that slots must explain to be believed."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A database as its load shows it; ``seen`` says whether it was ever full, so that its slots could be told."""

    backend: RecordedBackend
    slots: float
    seen: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """Every database, and the work of every arrival of the trace in seconds on an idle database."""

    databases: tuple[Fitted, ...]
    work: tuple[float, ...]


def backends_of(configuration: Configuration) -> tuple[RecordedBackend, ...]:
    """The backends, and one of its own for each pool that none serves."""
    served = {pool for backend in configuration.backends for pool in backend.pools}
    alone = [
        RecordedBackend(name.value, (name,), BackendLimits(seats=limits.in_flight))
        for name, limits in configuration.pools.items()
        if name not in served
    ]
    return (*configuration.backends, *alone)


def fit(trace: Trace, seed: int = 0) -> Fit:
    """The databases and the work of a trace. ``seed`` decides what work those would have been who never ran."""
    databases: list[Fitted] = []
    done: dict[int, float] = {}
    for backend in backends_of(trace.configuration):
        ran = {
            index: arrival
            for index, arrival in enumerate(trace.arrivals)
            if arrival.request.pool in backend.pools and arrival.started is not None
        }
        fitted = _slots(backend, list(ran.values())[-MOST:])
        databases.append(fitted)
        done |= dict(zip(ran, served(list(ran.values()), fitted.slots), strict=True))
    return Fit(tuple(databases), _work(trace, done, Random(seed)))  # noqa: S311 - a simulation, not a secret


def served(ran: Sequence[Arrival], slots: float) -> list[float]:
    """The work that each query did, were the database one of so many slots."""
    events: list[tuple[float, int, int]] = []
    for index, arrival in enumerate(ran):
        assert arrival.started is not None
        assert arrival.ended is not None
        events += [(arrival.started, 1, index), (arrival.ended, 0, index)]
    clock, at, active = 0.0, 0.0, 0.0
    began, work = [0.0] * len(ran), [0.0] * len(ran)
    for now, begins, index in sorted(events):
        if active > 0.0:
            clock += (now - at) * min(1.0, slots / active / (1.0 + THRASH * max(0.0, active / slots - 1.0)))
        at = now
        seats = max(1.0, ran[index].request.seats)
        if begins or ran[index].started == now:
            began[index] = clock
        if begins:
            active += seats
        else:
            active -= seats
            held = now - (ran[index].started or 0.0)
            busy = min(1.0, ran[index].seconds / held) if held > 0.0 else 0.0
            work[index] = (clock - began[index]) * busy
    return work


def _slots(backend: RecordedBackend, ran: Sequence[Arrival]) -> Fitted:
    company = _company(ran)
    most = max(company, default=1.0)
    word = Fitted(backend, max(float(backend.limits.seats), most), seen=False)
    known = [
        index
        for index, arrival in enumerate(ran)
        if arrival.outcome is Outcome.SUCCESS and arrival.request.predicted.p50 > 0 and arrival.seconds > 0
    ]
    if len(known) < SAMPLES:
        return word
    cut = [
        i for i, each in enumerate(ran) if each.outcome is Outcome.DROPPED and each.request.predicted.p50 > 0
    ]
    quiet = [index for index in known if company[index] <= most / 2]
    bias = _mean([_log(ran[i], ran[i].seconds) for i in quiet]) if len(quiet) >= SAMPLES else 0.0
    free = scatter = _scatter(ran, known, cut, most, bias)
    best = most
    slots = most * STEP
    while slots >= 1.0:
        found = _scatter(ran, known, cut, slots, bias)
        if found < scatter:
            scatter, best = found, slots
        slots *= STEP
    return Fitted(backend, best, seen=True) if scatter < free * (1.0 - GAIN) else word


def _scatter(
    ran: Sequence[Arrival], known: Sequence[int], cut: Sequence[int], slots: float, bias: float
) -> float:
    work = served(ran, slots)
    errors = [_log(ran[index], work[index]) - bias for index in known]
    errors += [max(0.0, _log(ran[index], work[index]) - bias) for index in cut]
    return _mean([error**2 for error in errors])


def _log(arrival: Arrival, work: float) -> float:
    return math.log(max(1e-9, work) / arrival.request.predicted.p50)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _company(ran: Sequence[Arrival]) -> list[float]:
    """The seats in use when each query began, its own among them."""
    events = [(arrival.started or 0.0, 1, index) for index, arrival in enumerate(ran)]
    events += [(arrival.ended or 0.0, 0, index) for index, arrival in enumerate(ran)]
    company, active = [0.0] * len(ran), 0.0
    for _, begins, index in sorted(events):
        seats = max(1.0, ran[index].request.seats)
        active += seats if begins else -seats
        if begins:
            company[index] = max(seats, active)
    return company


def _work(trace: Trace, done: Mapping[int, float], random: Random) -> tuple[float, ...]:
    """Unknown work is drawn from that of the same pool, relative to the predictions where there are any."""
    ratios: dict[PoolName, list[float]] = {}
    plain: dict[PoolName, list[float]] = {}
    for index, work in done.items():
        request = trace.arrivals[index].request
        if trace.arrivals[index].outcome is Outcome.SUCCESS:
            plain.setdefault(request.pool, []).append(work)
            if request.predicted.p50 > 0.0:
                ratios.setdefault(request.pool, []).append(work / request.predicted.p50)

    def drawn(arrival: Arrival) -> float:
        pool, p50 = arrival.request.pool, arrival.request.predicted.p50
        if p50 > 0.0:
            return p50 * random.choice(ratios.get(pool, [1.0]))
        return random.choice(plain.get(pool, [0.0]))

    return tuple(
        [
            done[index]
            if arrival.outcome in (Outcome.SUCCESS, Outcome.IGNORED)
            else max(done.get(index, 0.0), drawn(arrival))
            for index, arrival in enumerate(trace.arrivals)
        ]
    )
