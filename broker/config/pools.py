"""The limits of pools and databases: what is unset follows from the machine and from each other, rules are checked.

Where a database is on the same machine, it shares the processors with the broker, and twice as many seats as processors
keep them busy. Elsewhere it is unknown what it has; connections are then the measure of what it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from broker.config.address import on_this_machine
from broker.config.document import Path
from broker.config.findings import Severity
from broker.config.machine import Machine
from broker.config.report import Report
from broker.config.schema import Config
from broker.config.schema_database import LimitConfig
from broker.config.schema_pools import (
    AdminPoolConfig,
    JobPoolConfig,
    PoolConfig,
    QueryPoolConfig,
    SharingPoolConfig,
)
from broker.config.shape import Removed
from broker.domain.pool import PRIMARY, BackendLimits, LimitMode, PoolLimits, PoolName
from broker.policy.conditions import nearest

LEAST_SEATS = 4
_GROWTH = 4
"""An adaptive limit may grow to so many times its nominal seats, unless told."""
# Connections and workers per processor, and the least of each. The database usually has processors of its own, and
# dashboards are short, so they get more connections than processors; calculations get about one worker per processor.
# A job that runs reads nearly all the time, so each has a connection.
_CONNECTIONS = {
    PoolName.DASHBOARD: (4, 8),
    PoolName.EXPLORATION: (2, 4),
    PoolName.ADMIN: (0, 3),
}
_WORKERS = {PoolName.DASHBOARD: (1, 1), PoolName.EXPLORATION: (0.5, 1)}
_BESIDE_SEATS = {PoolName.ADMIN: 1}
"""Connections that are used without a seat: health checks must not wait behind estimates."""
Given = Mapping[PoolName, PoolConfig]


def build_pools(
    config: Config, removed: Removed, machine: Machine, report: Report
) -> tuple[dict[PoolName, PoolLimits], dict[str, BackendLimits]]:
    """The limits of every pool, and of every database by its name."""
    database = config.database
    if PRIMARY in database.replicas:
        report(("database", "replicas", PRIMARY), "is the name of the primary; give the replica another one")
    given: dict[PoolName, PoolConfig] = {name: getattr(config.pools, name) for name in PoolName}
    for name, pool in given.items():
        _check_pool(name, pool, config, removed, report)
    pools: dict[PoolName, PoolLimits] = {}
    backends: dict[str, BackendLimits] = {}
    for backend, path, dsn, limit in _databases(config):
        readers = {p: pool for p, pool in given.items() if (pool.replica or PRIMARY) == backend}
        made = {p: pool for p, pool in readers.items() if isinstance(pool, SharingPoolConfig)}
        seats = limit.seats or seats_of(dsn, made, machine)
        reach = _reach(limit, seats)
        connections = {p: connections_of(p, pool, machine, reach) for p, pool in readers.items()}
        _check_limit(path, limit, seats, sum(connections[p] for p in made), report)
        backends[backend] = _backend(limit, seats, max((connections[p] for p in made), default=seats))
        _check_shares(backend, made, report)
        total = sum(pool.share for pool in made.values())
        for p, pool in readers.items():
            share = pool.share if isinstance(pool, SharingPoolConfig) else 0.0
            own = seats * share / total if share else float(pool.in_flight)
            pools[p] = _limits(
                p, pool, machine, connections[p], own, dsn if backend != PRIMARY else "", report
            )
    for p in given.keys() - pools.keys():  # it names a replica that is not there
        pools[p] = _limits(
            p, given[p], machine, connections_of(p, given[p], machine), float(given[p].in_flight), "", report
        )
    return {name: pools[name] for name in PoolName}, backends


def _databases(config: Config) -> Iterable[tuple[str, Path, str, LimitConfig]]:
    yield PRIMARY, ("database", "limit"), config.database.dsn, config.database.limit
    for name, replica in config.database.replicas.items():
        if name != PRIMARY:
            yield name, ("database", "replicas", name, "limit"), replica.dsn, replica.limit


def connections_of(name: PoolName, given: PoolConfig, machine: Machine, reach: int = 0) -> int:
    """Connections of a pool that may come to use ``reach`` seats."""
    useful = given.in_flight + _BESIDE_SEATS.get(name, 0)
    if given.connections is not None:
        return given.connections
    if name not in _CONNECTIONS:
        return useful
    wanted = reach if isinstance(given, SharingPoolConfig) and given.share else 0
    return min(useful, max(_share(_CONNECTIONS[name], machine), wanted))


def workers_of(name: PoolName, given: PoolConfig, machine: Machine) -> int:
    """Worker processes of a pool; one that does not calculate has none."""
    if not isinstance(given, QueryPoolConfig):
        return 0
    return given.workers or min(given.in_flight, _share(_WORKERS[name], machine))


def seats_of(dsn: str, pools: Given, machine: Machine) -> int:
    """Seats of a database for which none are set."""
    most = max((connections_of(name, pool, machine) for name, pool in pools.items()), default=LEAST_SEATS)
    return max(LEAST_SEATS, min(most, 2 * machine.processors) if on_this_machine(dsn) else most)


def _reach(limit: LimitConfig, seats: int) -> int:
    """Seats for which there should be connections."""
    if limit.mode is LimitMode.ADAPTIVE:
        return max(seats, limit.ceiling or _GROWTH * seats)
    return limit.seats or 0


def _backend(limit: LimitConfig, seats: int, connections: int) -> BackendLimits:
    ceiling = limit.ceiling or max(seats, min(_GROWTH * seats, connections))
    floor = limit.floor or max(2, round(0.1 * seats))
    return BackendLimits(seats, min(floor, seats), ceiling, limit.memory, limit.mode)


def _limits(
    name: PoolName,
    given: PoolConfig,
    machine: Machine,
    connections: int,
    own: float,
    replica_dsn: str,
    report: Report,
) -> PoolLimits:
    workers = workers_of(name, given, machine)
    queue = given.queue if isinstance(given, AdminPoolConfig | QueryPoolConfig) else 0
    memory = given.worker_memory if isinstance(given, QueryPoolConfig | JobPoolConfig) else 0
    if not isinstance(given, SharingPoolConfig):
        return PoolLimits(
            given.in_flight, queue, connections, workers, given.wait_fraction, memory, replica_dsn,
            share=0.0, fallback=given.fallback,
        )  # fmt: skip
    reserved = given.reserved
    if reserved is None:
        reserved = 0 if name is not PoolName.DASHBOARD or own < 1 else max(1, round(0.1 * own))
    elif reserved > own:
        report(("pools", name, "reserved"), f"is more than the {own:.3g} seats that the pool owns")
    return PoolLimits(
        in_flight=given.in_flight,
        queue=queue,
        connections=connections,
        workers=workers,
        wait_fraction=given.wait_fraction,
        worker_memory=memory,
        replica_dsn=replica_dsn,
        share=given.share,
        lendable=given.lendable,
        borrow=math.inf if given.borrow is None else given.borrow,
        reclaim=given.reclaim,
        reserved=reserved,
        tenant_share=given.tenant_share,
        fallback=given.fallback,
    )


def _check_pool(name: PoolName, given: PoolConfig, config: Config, removed: Removed, report: Report) -> None:
    replicas = config.database.replicas
    missing = given.replica if given.replica not in replicas else ""
    if missing and not removed.may_hold(("database", "replicas", missing)):
        hint = nearest(missing, list(replicas)) or "; declare it in `database.replicas`"
        report(("pools", name, "replica"), f"there is no replica {missing!r}{hint}")
    if given.fallback and not given.replica:
        text = "has no effect on a pool that reads the primary"
        report(("pools", name, "fallback"), text, Severity.WARNING)
    useful = given.in_flight + _BESIDE_SEATS.get(name, 0)
    if given.connections is not None and given.connections > useful:
        report(
            ("pools", name, "connections"),
            f"is more than the {useful} that are used at once; the rest stays unused",
            Severity.WARNING,
        )


def _check_limit(path: Path, limit: LimitConfig, seats: int, connections: int, report: Report) -> None:
    if limit.floor is not None and limit.floor > seats:
        report((*path, "floor"), f"is more than the {seats} seats")
    if limit.ceiling is not None and limit.ceiling < seats:
        report((*path, "ceiling"), f"is less than the {seats} seats")
    if limit.mode is LimitMode.STATIC and (limit.floor or limit.ceiling):
        text = "has no effect on a static limit; set `mode` to `adaptive`, or to `shadow`"
        report((*path, "floor" if limit.floor else "ceiling"), text, Severity.WARNING)
    if limit.seats is not None and limit.seats > connections > 0:
        text = (
            f"is more than the {connections} connections of the pools that share them; the rest stays unused"
        )
        report((*path, "seats"), text, Severity.WARNING)


def _check_shares(name: str, pools: Mapping[PoolName, SharingPoolConfig], report: Report) -> None:
    if pools and not any(pool.share for pool in pools.values()):
        text = f"no pool that reads from {name!r} has a share of its seats; give one a `share` above 0"
        report(("pools", next(iter(pools)), "share"), text)


def _share(rule: tuple[float, int], machine: Machine) -> int:
    per_processor, least = rule
    return max(least, round(per_processor * machine.processors))
