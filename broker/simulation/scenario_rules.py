"""What can be wrong with a scenario although every value by itself is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from broker.simulation.scenario import Database, Model, Population, Scenario


def violations(scenario: Scenario) -> list[str]:
    """Every violation, with its place."""
    return [
        *_whole(scenario),
        *_populations(scenario),
        *(f"databases.{each.name}: {text}" for each in scenario.databases for text in _database(each)),
        *_changes(scenario),
    ]


def _whole(scenario: Scenario) -> Iterator[str]:
    served = [pool for database in scenario.databases for pool in database.pools]
    if not scenario.populations:
        yield "populations: nobody sends anything"
    if not 0 <= scenario.warmup < scenario.seconds:
        yield f"warmup: {scenario.warmup} is not between 0 and the {scenario.seconds} seconds"
    if scenario.brokers < 1 or scenario.kill_lag < 0:
        yield "brokers: there is at least one, and kill_lag is not below 0"
    yield from (
        f"populations: {name!r} is there twice" for name in _twice(p.name for p in scenario.populations)
    )
    yield from (f"databases: {name!r} is there twice" for name in _twice(d.name for d in scenario.databases))
    yield from (f"databases: {pool!r} is served by several" for pool in _twice(pool.value for pool in served))
    yield from (
        f"pools: {pool.value!r} is not declared" for pool in sorted(set(served) - scenario.pools.keys())
    )


def _twice(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _populations(scenario: Scenario) -> Iterator[str]:
    served = {pool for database in scenario.databases for pool in database.pools}
    names = {population.name for population in scenario.populations}
    for population in scenario.populations:
        yield from (f"populations.{population.name}: {text}" for text in _population(population))
        if population.pool not in served:
            yield f"populations.{population.name}: no database serves {population.pool.value!r}"
        if population.tenants_of and population.tenants_of not in names:
            yield f"populations.{population.name}: there is no population {population.tenants_of!r}"


def _population(population: Population) -> Iterator[str]:
    if (population.rate > 0) == (population.load > 0):
        yield "set either `rate` or `load`, above 0"
    if population.work.median <= 0 or population.work.sigma < 0 or population.work.seats < 1:
        yield "work needs a median above 0, a sigma from 0, and a seat"
    if min(population.tenants, population.panels) < 1:
        yield "there is at least one tenant and one panel"
    for name in ("demands", "sizes", "weights"):
        if min(getattr(population, name), default=0) <= 0:
            yield f"{name} are above 0"
    if min(population.timeout, population.patience, population.predictor.bias) <= 0:
        yield "timeout, patience and bias are above 0"
    if min(population.period, population.reading, population.predictor.sigma) < 0:
        yield "period, reading and the sigma of the predictor are not below 0"


def _database(database: Database) -> Iterator[str]:
    if database.slots <= 0 or database.thrash < 0 or database.nodes < 1:
        yield "needs slots above 0, thrash from 0, and a node"
    if database.model is Model.SPILL and database.memory <= 0:
        yield "queries that spill need a memory above 0"
    if database.model is Model.CONVOY and not 0 < database.serial <= 1:
        yield "a convoy needs a serial part above 0 and up to 1"
    if database.pressure < 0:
        yield "pressure is not below 0"


def _changes(scenario: Scenario) -> Iterator[str]:
    nodes = {database.name: database.nodes for database in scenario.databases}
    names = {population.name for population in scenario.populations}
    for index, step in enumerate(scenario.steps):
        if step.database not in nodes:
            yield f"steps.{index}: there is no database {step.database!r}"
        elif step.node is not None and not 0 <= step.node < nodes[step.database]:
            yield f"steps.{index}: {step.database!r} has no node {step.node}"
        if (step.slots is not None and step.slots < 0) or (step.speed is not None and step.speed < 0):
            yield f"steps.{index}: slots and speed are not below 0"
    for index, stage in enumerate(scenario.stages):
        yield from (
            f"stages.{index}: there is no population {name!r}" for name in stage.only if name not in names
        )
        if stage.load < 0:
            yield f"stages.{index}: a load is not below 0"
