"""The admission core that a configuration describes. A broker and the replay of its log build it here alike."""

from __future__ import annotations

from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.events import Configuration
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.stretch import StretchLimit


def core_of(configuration: Configuration) -> Scheduler:
    """A fresh core. The limit policy listens in every mode, for the progress that it tells is used even when static."""
    return Scheduler(
        configuration.pools,
        configuration.seed,
        [
            BackendSpec(backend.name, backend.pools, backend.limits, StretchLimit(backend.limits))
            for backend in configuration.backends
        ],
        configuration.tenants,
        configuration.default_tenant,
    )
