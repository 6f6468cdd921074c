"""Builds the admission of a process: its pools, the databases whose seats they share, the limits of tenants."""

from __future__ import annotations

from collections.abc import Mapping

from broker.app.backends import backends_of
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.stretch import StretchLimit
from broker.runtime.admission import Admission


def build_admission(settings: Settings, limits: Mapping[PoolName, PoolLimits], own: Process) -> Admission:
    """Seats for the pools of this process."""
    database = settings.database
    specs = [
        BackendSpec(
            backend.name,
            backend.pools,
            database.limits[backend.name],
            StretchLimit(database.limits[backend.name]),
        )
        for backend in backends_of(limits, database.replicas)
    ]
    core = Scheduler(limits, own.random.getrandbits(64), specs, settings.tenants, settings.default_tenant)
    return Admission(core, own.clock, own.telemetry)
