"""Databases, pools and clients that several studies share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from broker.domain.pool import LimitMode, PoolLimits, PoolName
from broker.simulation.scenario import Database, Population, Predictor, Scenario, Step, Work

SLOTS = 32
QUERY = Work(0.3, 0.8)
"""A query of 0.41 s on average; one of 500 takes longer than the deadline of 3 s by itself."""
USERS = Population("users", QUERY, load=1.0, tenants=10)
"""Ten tenants with equal demand for ordinary queries; replace the load."""


def four_pools() -> Mapping[PoolName, PoolLimits]:
    """The pools that share a database, with the shares of an ordinary broker; seats are the only bound on them."""
    common = PoolLimits(in_flight=1000, queue=5000, connections=0, workers=0)
    return {
        PoolName.DASHBOARD: _pool(common, 0.5, 0.15, 0.8, reserved=2),
        PoolName.EXPLORATION: _pool(common, 0.3, 0.2, 0.5, borrow=2.0),
        PoolName.JOB: _pool(common, 0.2, 0.5, 0.9),
    }


def _pool(
    common: PoolLimits,
    share: float,
    wait: float,
    lendable: float,
    *,
    borrow: float = math.inf,
    reserved: int = 0,
) -> PoolLimits:
    return replace(
        common, share=share, wait_fraction=wait, lendable=lendable, borrow=borrow, reserved=reserved
    )


def shared_database(slots: int = SLOTS) -> Database:
    """One database for all pools."""
    return Database(slots=slots, pools=(PoolName.DASHBOARD, PoolName.EXPLORATION, PoolName.JOB))


def capacity_steps(predictor: Predictor, load: float, third: float) -> Scenario:
    """Capacity falls by half and comes back, each part ``third`` seconds long; nobody tells the broker."""
    queries = Population("users", Work(1.0, 1.2), load=load, tenants=10, timeout=10.0, predictor=predictor)
    return Scenario(
        "capacity-steps",
        (queries,),
        seconds=3 * third,
        warmup=third / 5,
        databases=(Database(slots=SLOTS, mode=LimitMode.ADAPTIVE),),
        steps=(Step(third, slots=SLOTS / 2), Step(2 * third, slots=SLOTS)),
    )
