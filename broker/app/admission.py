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
    """Seats for the pools of this process. The seed is drawn anew for every process."""
    configuration = configuration_of(settings, limits, own.random.getrandbits(64))
    return Admission(core_of(configuration), own.clock, own.telemetry)


def configuration_of(settings: Settings, limits: Mapping[PoolName, PoolLimits], seed: int) -> Configuration:
    """All that the core is built from."""
    database = settings.database
    backends = [
        RecordedBackend(backend.name, backend.pools, database.limits[backend.name])
        for backend in backends_of(limits, database.replicas)
    ]
    return Configuration(limits, seed, tuple(backends), settings.tenants, settings.default_tenant)
