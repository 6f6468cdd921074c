"""Seats, shares, connections and the limits of tenants: what is unset is derived, what is set holds."""

from __future__ import annotations

import math

import pytest

from broker.config.findings import Severity
from broker.config.loader import Configuration, load_text
from broker.config.machine import Machine
from broker.domain.pool import BackendLimits, LimitMode, PoolLimits, PoolName, TenantLimits

MODEL = "datasets: {flights: {table: flights, measures: {flights: count}}}\n"
ELSEWHERE, HERE = "postgresql://db/x", "postgresql://localhost/x"


def load(more: str = "", processors: int = 2, dsn: str = ELSEWHERE) -> Configuration:
    return load_text(MODEL + more, {"DATABASE_URL": dsn}, source="broker.yaml", machine=Machine(processors))


def primary(more: str = "", processors: int = 2, dsn: str = ELSEWHERE) -> BackendLimits:
    return load(more, processors, dsn).settings.database.limits["primary"]


def test_pools_follow_the_machine_unless_they_are_told() -> None:
    small, large = load("", 1).settings.pools, load("", 64).settings.pools
    assert small[PoolName.DASHBOARD] == PoolLimits(
        100, 1000, connections=8, workers=1, wait_fraction=0.15, share=0.5, lendable=0.8, reserved=1
    )
    assert large[PoolName.DASHBOARD].connections == 100
    assert large[PoolName.EXPLORATION].workers == 10
    assert large[PoolName.ADMIN] == PoolLimits(
        2, 10, connections=3, workers=0, wait_fraction=0.25, worker_memory=0, share=0.0
    )
    assert small[PoolName.JOB].connections == 5
    more = "pools: {job: {connections: 3, in_flight: 4}, dashboard: {connections: 6, workers: 4}}\n"
    told = load(more, 64).settings
    assert told.pools[PoolName.JOB].connections == 3
    assert (told.pools[PoolName.DASHBOARD].connections, told.pools[PoolName.DASHBOARD].workers) == (6, 4)
    assert told.jobs.slots == 4


def test_pools_read_from_the_replica_they_name() -> None:
    more = "database: {replicas: {copy: postgresql://copy/x}}\npools: {exploration: {replica: copy}}\n"
    settings = load(more).settings
    assert settings.pools[PoolName.EXPLORATION].replica_dsn == "postgresql://copy/x"
    assert settings.pools[PoolName.DASHBOARD].replica_dsn == ""
    assert settings.database.replicas == {"copy": "postgresql://copy/x"}
    assert not any(pool.fallback for pool in settings.pools.values())


def test_a_pool_may_fall_back_from_its_replica_to_the_primary() -> None:
    more = "database: {replicas: {copy: postgresql://copy/x}}\npools: {exploration: {replica: copy, fallback: true}}\n"
    pools = load(more).settings.pools
    assert [name for name, pool in pools.items() if pool.fallback] == [PoolName.EXPLORATION]


def test_the_shares_of_the_pools() -> None:
    pools = load("database: {limit: {seats: 40}}").settings.pools
    assert [pools[name].share for name in PoolName] == [0.5, 0.3, 0.2, 0]
    assert [pools[name].lendable for name in PoolName][:3] == [0.8, 0.5, 0.9]
    assert [pools[name].borrow for name in PoolName][:3] == [math.inf, 2, math.inf]
    assert [pools[name].reserved for name in PoolName] == [2, 0, 0, 0]
    assert [pools[name].wait_fraction for name in PoolName] == [0.15, 0.2, 0.5, 0.25]
    more = "pools: {dashboard: {reserved: 0, reclaim: 500ms}, exploration: {borrow: 9, tenant_share: 0.5}}"
    told = load(more).settings.pools
    assert (told[PoolName.DASHBOARD].reserved, told[PoolName.DASHBOARD].reclaim) == (0, 0.5)
    assert (told[PoolName.EXPLORATION].borrow, told[PoolName.EXPLORATION].tenant_share) == (9, 0.5)


@pytest.mark.parametrize(
    ("dsn", "processors", "seats"),
    [
        (ELSEWHERE, 2, 8),
        (ELSEWHERE, 64, 100),
        (HERE, 1, 4),
        (HERE, 2, 4),
        (HERE, 16, 32),
        (HERE, 64, 100),
        ("postgresql://[::1]:5432/x", 2, 4),
        ("postgresql://%2Ftmp%2Fserver/x", 2, 4),
        ("postgresql:///x?host=/tmp/server", 2, 4),
        ("postgresql://[::1/x", 2, 8),
        ("postgresql://", 2, 8),
    ],
)
def test_seats_follow_the_processors_where_the_database_is(dsn: str, processors: int, seats: int) -> None:
    assert primary("", processors, dsn).seats == seats


def test_seats_are_no_fewer_than_four_unless_they_are_told() -> None:
    few = "pools: {dashboard: {connections: 1}, exploration: {connections: 1}, job: {connections: 1, in_flight: 1}}"
    assert primary(few).seats == 4
    assert primary("database: {limit: {seats: 3}}") == BackendLimits(3, floor=2, ceiling=8)


def test_connections_grow_with_the_seats_they_are_for() -> None:
    static = load("database: {limit: {seats: 40}}").settings
    assert static.pools[PoolName.DASHBOARD].connections == 40
    assert static.pools[PoolName.EXPLORATION].connections == 10
    assert static.pools[PoolName.ADMIN].connections == 3
    adaptive = load("database: {limit: {mode: adaptive}}").settings
    assert adaptive.pools[PoolName.DASHBOARD].connections == 32
    assert adaptive.database.limits["primary"] == BackendLimits(8, 2, 32, mode=LimitMode.ADAPTIVE)
    bounded = load("database: {limit: {mode: adaptive, seats: 30, ceiling: 50, memory: 4GiB}}").settings
    assert bounded.pools[PoolName.DASHBOARD].connections == 50
    assert bounded.database.limits["primary"] == BackendLimits(30, 3, 50, 4 << 30, LimitMode.ADAPTIVE)
    told = "database: {limit: {mode: adaptive}}\npools: {dashboard: {connections: 12}, exploration: {connections: 9}}"
    assert primary(told) == BackendLimits(12, 2, 12, mode=LimitMode.ADAPTIVE)


def test_every_replica_has_seats_of_its_own() -> None:
    more = """\
database:
  limit: {mode: shadow}
  replicas:
    near: postgresql://localhost/x
    far: {dsn: postgresql://far/x, limit: {mode: adaptive, seats: 12}}
pools: {exploration: {replica: near}, job: {replica: far}}
"""
    limits = load(more).settings.database.limits
    assert {name: (limit.mode, limit.seats) for name, limit in limits.items()} == {
        "primary": (LimitMode.SHADOW, 8),
        "near": (LimitMode.STATIC, 4),
        "far": (LimitMode.ADAPTIVE, 12),
    }


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("database: {limit: {ceiling: 50}}", "has no effect on a static limit"),
        ("pools: {dashboard: {fallback: true}}", "has no effect on a pool that reads the primary"),
        (
            "database: {limit: {seats: 40}}\npools: {dashboard: {connections: 9}}",
            "is more than the 24 connections of the pools that share them",
        ),
    ],
)
def test_limits_that_do_nothing_are_a_warning(more: str, said: str) -> None:
    (finding,) = load(more).findings
    assert finding.severity is Severity.WARNING
    assert said in finding.message


def test_tenants_have_their_own_limits_or_those_of_all() -> None:
    more = """\
tenants:
  default: {}
  large: {weight: 3, rate: 50}
tenant_limits: {in_flight: 20, rate: 5}
"""
    settings = load(more).settings
    assert settings.tenants == {
        "default": TenantLimits(1, 20, 5, 10),
        "large": TenantLimits(3, 20, 50, 10),
    }
    assert settings.default_tenant == TenantLimits(1, 20, 5, 10)
    assert load().settings.default_tenant == TenantLimits()
    assert load().settings.tenants == {}
