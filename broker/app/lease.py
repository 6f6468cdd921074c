"""The lease of a process that runs jobs, over its parts."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable

from broker.adapters.pg_jobs_open import PgJobs
from broker.app.process import Process
from broker.config.settings import JobSettings
from broker.jobs.lease import LeaseKeeper
from broker.ports.jobs import WorkerIdentity


def lease_keeper(
    settings: JobSettings, own: Process, ports: PgJobs, slots: int, exit: Callable[[int], None]
) -> LeaseKeeper:
    """Keeps this process leased, under a new identity whenever a lease begins; ``exit`` ends what relies on it."""

    def identity() -> WorkerIdentity:
        return WorkerIdentity(
            id=str(uuid.uuid4()),
            host=socket.gethostname(),
            process_id=os.getpid(),
            build=own.identity.version,
            slot_count=slots,
        )

    return LeaseKeeper(ports.lease, identity, settings.lease, clock=_sleepless, exit=exit, rng=own.random)


def _sleepless() -> float:
    """Seconds of a clock that counts the time in which the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
