"""Builds the admission of a process: its pools, the databases whose seats they share, the limits of tenants."""

from __future__ import annotations

from collections.abc import Mapping

from broker.app.backends import backends_of
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.assemble import core_of
from broker.policy.admission.events import Configuration, RecordedBackend
from broker.runtime.admission import Admission


def build_admission(settings: Settings, limits: Mapping[PoolName, PoolLimits], own: Process) -> Admission:
    """Seats for the pools of this process."""
    core = core_of(configuration_of(settings, limits, own))
    return Admission(core, own.clock, own.telemetry)


def configuration_of(
    settings: Settings, limits: Mapping[PoolName, PoolLimits], own: Process
) -> Configuration:
    """All that the core is built from; the seed is drawn anew for every process."""
    database = settings.database
    return Configuration(
        limits,
        own.random.getrandbits(64),
        tuple(
            [
                RecordedBackend(backend.name, backend.pools, database.limits[backend.name])
                for backend in backends_of(limits, database.replicas)
            ]
        ),
        settings.tenants,
        settings.default_tenant,
        own.clock.monotonic(),
        own.clock.now().timestamp(),
    )
