"""Lets a process share the seats of its databases with the other processes that use them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

from broker.adapters.pg_leases import PgLeases
from broker.app.backends import backends_of
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.fleet import MemberKind
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.state import FleetMemberState
from broker.runtime.admission import Admission
from broker.runtime.fleet import Fleet, Terms


class Alone:
    """The fleet of a process that shares nothing."""

    def state(self) -> tuple[FleetMemberState, ...]:
        """Nobody."""
        return ()


@asynccontextmanager
async def sharing(
    settings: Settings,
    kind: MemberKind,
    pools: Mapping[PoolName, PoolLimits],
    admission: Admission,
    own: Process,
    expected: int = 1,
) -> AsyncIterator[Fleet | Alone]:
    """Keeps the leases of a process while the block runs. ``expected`` processes were started together with it.

    Where sharing is switched off, these divide the seats among themselves once and for all.
    """
    limits = settings.database.limits
    if not settings.fleet.enabled:
        for load in admission.backends() if expected > 1 else ():
            admission.lease(load.name, max(1, limits[load.name].seats // expected))
        yield Alone()
        return
    host, portions = socket.gethostname(), _portions(settings, pools)
    terms = Terms(own.identity.instance_id, kind, host, limits, pools, expected, portions)
    async with aclosing(PgLeases(settings.jobs.dsn, settings.fleet.name)) as store:
        fleet = Fleet(store, admission, terms, own.clock, own.telemetry)
        async with fleet.sharing():
            yield fleet


def _portions(settings: Settings, pools: Mapping[PoolName, PoolLimits]) -> dict[str, float]:
    """How much of each database belongs to the pools of this process, by their shares among all pools there."""
    found = {}
    for backend in backends_of(settings.pools, settings.database.replicas):
        shares = {name: settings.pools[name].share for name in backend.pools}
        total = sum(shares.values())
        if total:
            found[backend.name] = sum(share for name, share in shares.items() if name in pools) / total
    return found
