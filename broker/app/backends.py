"""The databases that a broker reads from: whether they answer, and what operators are told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.adapters.pg_guard import Guard
from broker.adapters.pg_store import PgStore
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.pool import PRIMARY, PoolLimits, PoolName
from broker.domain.state import BackendState, Breaker
from broker.policy.admission.values import BackendLoad, Signal
from broker.policy.breaker import Transition
from broker.ports.clock import Clock

_PREFERRED = (PoolName.ADMIN, PoolName.EXPLORATION, PoolName.DASHBOARD)
"""Pools by how gladly they give a connection to a check: the one of administration keeps one free."""


@dataclass(slots=True)
class Backend:
    """One server, the pools that read from it, and how the last check went."""

    name: str
    pools: tuple[PoolName, ...]
    server_version: str = ""
    replica_lag: float | None = None
    error: str = ""

    @property
    def checked_by(self) -> PoolName:
        """The pool whose connection a check takes."""
        return next(name for name in _PREFERRED if name in self.pools)


@dataclass(frozen=True, slots=True)
class Backends:
    """All servers. ``timeout`` of a check is in seconds; ``guards`` says what stands before a pool's server."""

    store: PgStore
    guards: Callable[[PoolName], Guard]
    clock: Clock
    timeout: float
    every: Sequence[Backend] = field(default_factory=tuple)

    async def check(self) -> None:
        """Asks every server for its version. Queries can be served while one of them answers.

        Raises:
            BrokerError: That of the first server, when none answers.
        """
        errors = await asyncio.gather(*(self._check(backend) for backend in self.every))
        if all(errors) and (first := errors[0]) is not None:
            raise first

    async def _check(self, backend: Backend) -> BrokerError | None:
        """Looks at one server. A breaker that is half-open is closed by that alone, so nobody has to ask for it."""
        deadline = Deadline.after(self.timeout, self.clock.monotonic())
        guard = self.guards(backend.checked_by)
        try:
            await self._look(backend, deadline)
            while guard.state is Breaker.HALF_OPEN:
                await self._look(backend, deadline)
        except BrokerError as error:
            known = error.metadata
            cause = known.get("condition") or known.get("error") or error.reason.value
            backend.error = f"{cause}: {error.message}"
            return error
        backend.error = ""
        return None

    async def _look(self, backend: Backend, deadline: Deadline) -> None:
        async with self.store.snapshot(backend.checked_by, deadline, elsewhere=False) as snapshot:
            backend.server_version, backend.replica_lag = snapshot.server_version, snapshot.replica_lag

    def states(self, loads: Sequence[BackendLoad]) -> tuple[BackendState, ...]:
        """Every server with its seats."""
        known = {load.name: load for load in loads}
        return tuple(
            BackendState(
                backend.name,
                breaker=self.guards(backend.checked_by).state,
                limit=float(known[backend.name].limit) if backend.name in known else 0.0,
                relative_speed=known[backend.name].progress if backend.name in known else 1.0,
                seats_used=float(known[backend.name].seats_used) if backend.name in known else 0.0,
                replica_lag=backend.replica_lag,
                server_version=backend.server_version,
                last_error=backend.error,
            )
            for backend in self.every
        )


def backends_of(limits: Mapping[PoolName, PoolLimits], replicas: Mapping[str, str]) -> tuple[Backend, ...]:
    """The servers that the pools read from, the primary first; ``replicas`` has their names with their addresses."""
    names = {dsn: name for name, dsn in replicas.items()} | {"": PRIMARY}
    pools: dict[str, list[PoolName]] = {}
    for pool, limit in sorted(limits.items(), key=lambda item: item[1].replica_dsn):
        pools.setdefault(limit.replica_dsn, []).append(pool)
    return tuple(Backend(names[dsn], tuple(members)) for dsn, members in pools.items())


def news_of(change: Transition) -> Signal | None:
    """What a breaker's change means to the limit of its database; None when that is known already."""
    if change.after is Breaker.CLOSED:
        return Signal.RECOVERED
    return Signal.CONNECTION_REFUSED if change.before is Breaker.CLOSED else None
