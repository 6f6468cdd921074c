"""The admission core of a simulated broker, made from a scenario as a broker makes its own from its configuration."""

from __future__ import annotations

from collections.abc import Callable

from broker.domain.pool import BackendLimits
from broker.policy.admission.assemble import core_of
from broker.policy.admission.events import Configuration, RecordedBackend
from broker.policy.admission.values import AdmissionCore
from broker.simulation.rivals.truth import Truth
from broker.simulation.scenario import Scenario

CoreFactory = Callable[[Configuration, Truth], AdmissionCore]
"""Makes a core; only the rivals that measure what knowing better would bring look at the truth."""


def configuration_of(scenario: Scenario, seed: int) -> Configuration:
    """The limits of a scenario: a database has as many seats as slots unless it says otherwise."""
    backends = tuple(
        RecordedBackend(
            database.name,
            database.pools,
            BackendLimits(
                database.seats if database.seats is not None else round(database.slots),
                database.floor, database.ceiling, database.memory, database.mode,
            ),
        )
        for database in scenario.databases
    )  # fmt: skip
    return Configuration(scenario.pools, seed, backends, scenario.tenants)


def own_core(configuration: Configuration, truth: Truth | None = None) -> AdmissionCore:  # noqa: ARG001 - a broker does not know it
    """The core of the broker, built as a broker builds it."""
    return core_of(configuration)
