"""A recorded load as the load of the simulator: the same requests at the same instants, and as many more as wished."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.policy.admission.assemble import core_of
from broker.policy.admission.events import Configuration
from broker.policy.admission.values import AdmissionCore
from broker.simulation.call import Call
from broker.simulation.clients import Source
from broker.simulation.cores import CoreFactory
from broker.simulation.engine import Engine
from broker.simulation.fit import Fit, backends_of
from broker.simulation.recorder import cell_count
from broker.simulation.result import Result, result_of
from broker.simulation.rivals.truth import Truth
from broker.simulation.scenario import Database, Population, Scenario, Work
from broker.simulation.trace import Arrival, Trace

JITTER, JITTER_SHARE = 30.0, 0.05
"""Copies come up to so many seconds, and so much of the whole time, before or after the original."""


def broker_core(configuration: Configuration, truth: Truth | None = None) -> AdmissionCore:  # noqa: ARG001 - a broker does not know it
    """The core of a running broker."""
    return core_of(configuration)


@dataclass(frozen=True, slots=True)
class Planned:
    """A request to come: ``at`` counts from the start of the run, ``work`` is in seconds on an idle database."""

    at: float
    work: float
    arrival: Arrival
    group: str


def multiplied(trace: Trace, fit: Fit, load: float, seed: int) -> list[Planned]:
    """The arrivals ``load`` times over, in order of time; time is not compressed.

    Every request comes as often as the whole part of ``load`` says, and once more with the chance of the rest. Copies
    are shifted at random; the requests of one load group are shifted together and are a group of their own.
    """
    reach = min(JITTER, JITTER_SHARE * trace.seconds)
    planned: list[Planned] = []
    for arrival, work in zip(trace.arrivals, fit.work, strict=True):
        at, group = arrival.at - trace.begin, arrival.request.load_group
        # one stream per request or group, so that its copies do not depend on what else there is, nor on the load
        random = Random(f"{seed}/{arrival.request.tenant}/{group or arrival.request.id}")  # noqa: S311 - a simulation
        share = random.random()
        for copy in range(int(load) + (share < load % 1)):
            shift = random.uniform(-reach, reach) if copy else 0.0
            when = min(max(0.0, at + shift), trace.seconds)
            planned.append(Planned(when, work, arrival, f"{group}/{copy}" if group and copy else group))
    return sorted(planned, key=lambda each: (each.at, each.arrival.request.id, each.group))


class Recorded(Source):
    """Requests as planned, in place of random ones."""

    def __init__(
        self, index: int, scenario: Scenario, numbers: Iterator[int], planned: Sequence[Planned]
    ) -> None:
        super().__init__(index, scenario, 0, numbers, 0)
        self.tenants = tuple(sorted({each.arrival.request.tenant for each in planned}))
        cells = cell_count(scenario.ends)
        self.rows = [[0.0] * cells for _ in self.tenants]
        self._row_of = dict(zip(self.tenants, self.rows, strict=True))
        self._planned = planned
        self._next = 0

    def first(self) -> float:
        """When the first request comes."""
        return self._planned[0].at

    def following(self, now: float) -> float:  # noqa: ARG002 - the plan knows
        """When the one after the next comes."""
        return self._planned[self._next + 1].at if self._next + 1 < len(self._planned) else math.inf

    def single(self, now: float, tenant: int | None = None) -> Call:  # noqa: ARG002 - the plan names the tenant
        """The next request."""
        planned = self._planned[self._next]
        self._next += 1
        arrival, request = planned.arrival, planned.arrival.request
        call = Call(
            next(self._numbers),
            self.index,
            request.tenant,
            self._row_of[request.tenant],
            planned.work,
            max(1, math.ceil(request.seats)),
            request.memory,
            request.predicted,
            now,
            now + request.deadline_at - arrival.at,
        )
        call.leaves = min(call.deadline, now + arrival.left - arrival.at)
        call.attempt = request.attempt
        call.group = planned.group
        return call


def play(
    trace: Trace,
    fit: Fit,
    *,
    load: float = 1.0,
    speed: float = 1.0,
    seed: int = 0,
    make: CoreFactory = broker_core,
    configuration: Configuration | None = None,
    wrap: Callable[[AdmissionCore], AdmissionCore] = lambda core: core,
) -> tuple[Result, Engine]:
    """Runs a recorded load: ``load`` times as many requests, which come ``speed`` times as fast.

    The core is made for ``configuration``, that of the log unless another is given. A database that the log does not
    know has as many slots as it is given seats.
    """
    planned = [replace(each, at=each.at / speed) for each in multiplied(trace, fit, load, seed)]
    parts: dict[tuple[PoolName, Criticality], list[Planned]] = {}
    for each in planned:
        parts.setdefault((each.arrival.request.pool, each.arrival.request.criticality), []).append(each)
    settings = replace(configuration or trace.configuration, seed=seed)
    scenario = _scenario(settings, fit, list(parts.items()), trace.seconds / speed)
    engine = Engine(scenario, seed, lambda _, truth: make(settings, truth), wrap=wrap)
    numbers = iter(range(1, len(planned) + 1))
    engine.sources = [Recorded(index, scenario, numbers, part) for index, part in enumerate(parts.values())]
    engine.run()
    return result_of(engine, seed), engine


def _scenario(
    configuration: Configuration,
    fit: Fit,
    parts: Sequence[tuple[tuple[PoolName, Criticality], Sequence[Planned]]],
    seconds: float,
) -> Scenario:
    populations = tuple(
        [
            Population(
                f"{pool.value}/{criticality.name.lower()}",
                Work(1.0),
                pool,
                timeout=max(each.arrival.request.deadline_at - each.arrival.at for each in part),
                criticality=criticality,
            )
            for (pool, criticality), part in parts
        ]
    )
    slots = {each.backend.name: each.slots for each in fit.databases}
    databases = tuple(
        [
            Database(
                backend.name,
                slots=slots.get(backend.name, float(backend.limits.seats)),
                pools=backend.pools,
                seats=backend.limits.seats,
            )
            for backend in backends_of(configuration)
        ]
    )
    return Scenario(
        "recorded",
        populations,
        seconds=seconds,
        warmup=0.0,
        about="the load of a decision log",
        databases=databases,
        pools=configuration.pools,
    )
