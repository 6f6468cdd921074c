"""The schema of the executor pools: requests in flight, shares of the database's seats, connections, workers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from broker.config.base import PRESET, Count, Section
from broker.config.units import GIB, MIB, Duration, Size


class PoolConfig(Section):
    """What every executor pool has."""

    model_config = PRESET

    in_flight: Count
    """Requests that are admitted at once, at most; the seats of the database bound them further."""
    wait_fraction: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of a caller's remaining time that may be spent waiting for a seat."""
    connections: Count | None = None
    """Database connections. Unset: from the number of processors, and as many as the seats ask for."""
    replica: str = ""
    """Name of the replica in `database.replicas` that this pool reads from. Empty: the primary."""
    fallback: bool = False
    """Whether the pool reads the primary while its replica cannot be reached, with as many connections there."""


class AdminPoolConfig(PoolConfig):
    """The pool of short questions about questions, which need no calculations. Its seats are its own."""

    queue: Annotated[int, Field(ge=0)]
    """Requests that may wait for a seat."""


class SharingPoolConfig(PoolConfig):
    """A pool that shares the seats of its database with others."""

    share: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Share of the seats that the pool owns, relative to the shares of the other pools there. With 0 it stands outside:
    it has `in_flight` seats of its own."""
    lendable: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Part of its unused seats that other pools may use."""
    reserved: Annotated[int, Field(ge=0)] | None = None
    """Seats that are never lent. Unset: a tenth of its seats and at least 1 for dashboards, else 0."""
    reclaim: Duration = 2
    """Seats are lent only to requests that are predicted to give them back within this time."""
    borrow: Annotated[float, Field(ge=1)] | None = None
    """Seats that the pool may use in all, as a multiple of those it owns. Unset: any number."""
    tenant_share: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Part of the pool's seats that one tenant may use while others wait."""


class QueryPoolConfig(SharingPoolConfig):
    """A pool of queries whose caller waits."""

    queue: Annotated[int, Field(ge=0)]
    """Requests that may wait for a seat."""
    workers: Count | None = None
    """Worker processes for calculations. Unset: from the number of processors."""
    worker_memory: Annotated[Size, Field(ge=128 * MIB)] = 1 * GIB
    """Memory that one worker process may take."""


class JobPoolConfig(SharingPoolConfig):
    """The pool of jobs, whose queue is in the database and has no bound."""

    worker_memory: Annotated[Size, Field(ge=128 * MIB)] = 1 * GIB
    """Memory that the process of one job may take."""


class PoolsConfig(Section):
    """The executor pools. Each has its own queue, connections and seats, and worker processes where it calculates."""

    dashboard: QueryPoolConfig = QueryPoolConfig(
        in_flight=100, queue=1000, wait_fraction=0.15, share=0.5, lendable=0.8
    )
    """Dashboards."""
    exploration: QueryPoolConfig = QueryPoolConfig(
        in_flight=10, queue=50, wait_fraction=0.2, share=0.3, borrow=2
    )
    """Explorations."""
    job: JobPoolConfig = JobPoolConfig(in_flight=5, wait_fraction=0.5, share=0.2, lendable=0.9)
    """Jobs, in the process `broker worker`."""
    admin: AdminPoolConfig = AdminPoolConfig(in_flight=2, queue=10)
    """Estimates and the reading of SQL; health checks take a connection of it, and no seat."""
