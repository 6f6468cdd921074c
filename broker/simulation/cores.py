"""The admission core of a simulated broker, made from a scenario as a broker makes its own from its configuration."""

from __future__ import annotations

from collections.abc import Callable

from broker.domain.pool import BackendLimits, LimitMode
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.events import Configuration, RecordedBackend
from broker.policy.admission.limit import LimitPolicy, StaticLimit
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.stretch import StretchLimit
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


def own_core(
    configuration: Configuration,
    truth: Truth | None = None,  # noqa: ARG001 - a broker does not know it
    limit: Callable[[RecordedBackend], LimitPolicy] | None = None,
) -> Scheduler:
    """The core of the broker; ``limit`` makes limit policies in place of those that the modes ask for."""
    specs = [
        BackendSpec(backend.name, backend.pools, backend.limits, (limit or limit_policy)(backend))
        for backend in configuration.backends
    ]
    return Scheduler(
        configuration.pools, configuration.seed, specs, configuration.tenants, configuration.default_tenant
    )


def limit_policy(backend: RecordedBackend) -> LimitPolicy:
    """The policy that a mode stands for."""
    if backend.limits.mode is LimitMode.STATIC:
        return StaticLimit(backend.limits.seats)
    return StretchLimit(backend.limits)
