"""Builds the admission of a process: its pools, the databases whose seats they share, the limits of tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from broker.app.backends import backends_of
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.assemble import core_of
from broker.policy.admission.events import Configuration, RecordedBackend
from broker.policy.admission.observed import ObservedCore
from broker.runtime.admission import Admission
from broker.runtime.decision_log import DecisionLog


def build_admission(settings: Settings, limits: Mapping[PoolName, PoolLimits], own: Process) -> Admission:
    """Seats for the pools of this process. The seed is drawn anew for every process."""
    configuration = configuration_of(settings, limits, own.random.getrandbits(64))
    return Admission(core_of(configuration), own.clock, own.telemetry)


@asynccontextmanager
async def recorded_admission(
    settings: Settings, limits: Mapping[PoolName, PoolLimits], own: Process, index: int | None
) -> AsyncIterator[Admission]:
    """The same for a server, with its decision log where one is kept; ``index`` tells processes on one port apart.

    Raises:
        OSError: The decision log cannot be written.
    """
    path = settings.server.decision_log
    if path is None:
        admission = build_admission(settings, limits, own)
        try:
            yield admission
        finally:
            admission.close()
        return
    configuration = configuration_of(settings, limits, own.random.getrandbits(64))
    place = path if index is None else path.with_stem(f"{path.stem}-{index}")
    log = DecisionLog(place, configuration, own.clock, own.telemetry, settings.server.decision_log_bytes)
    log.start()
    admission = Admission(ObservedCore(core_of(configuration), log.told), own.clock, own.telemetry)
    try:
        yield admission
    finally:
        admission.close()
        await asyncio.to_thread(log.close)


def configuration_of(settings: Settings, limits: Mapping[PoolName, PoolLimits], seed: int) -> Configuration:
    """All that the core is built from."""
    database = settings.database
    backends = [
        RecordedBackend(backend.name, backend.pools, database.limits[backend.name])
        for backend in backends_of(limits, database.replicas)
    ]
    return Configuration(limits, seed, tuple(backends), settings.tenants, settings.default_tenant)
