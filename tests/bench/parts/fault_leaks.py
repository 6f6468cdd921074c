"""What must be as it was once all faults are over: seats, queues, connections, processes and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import asyncpg
import grpc.aio
import psutil

from querybroker.v1 import admin_service_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.support.eventually import eventually
from tests.support.server import RunningBroker

_OPEN = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name LIKE 'querybroker%' AND state <> 'idle' AND now() - state_change > interval '3 s'
"""
_PREPARED = "SELECT count(*) FROM pg_prepared_xacts"
_TOLD = ("Traceback", "never retrieved", "never awaited", "was destroyed", "Unclosed", "INTERNAL")
_LIBRARY = "ExecuteBatchError raised in core by servicer method"
"""gRPC says so when a deadline passes while the first message of a stream is being written: no status can follow it,
and the caller's own deadline has passed too."""
PATIENCE = 30.0


async def leaks(broker: RunningBroker, dsn: str, family: set[psutil.Process], home: Path) -> list[str]:
    """What is left over after some patience; empty when nothing is."""
    found: list[str] = []

    async def none() -> bool:
        found[:] = [*await _held(broker), *await _sessions(dsn), *_processes(family), *_files(home)]
        return not found

    try:
        await eventually(none, "everything is given back", PATIENCE)
    except AssertionError:
        return found
    return []


def told(logs: Sequence[Path]) -> list[str]:
    """Lines of logs that tell of a bug or of something that was forgotten."""
    return [
        f"{log.name}: {line[:300]} … {line[-2000:]}"
        for log in logs
        for line in log.read_text(errors="replace").splitlines()
        if any(word in line for word in _TOLD) and _LIBRARY not in line
    ]


async def _held(broker: RunningBroker) -> list[str]:
    async with grpc.aio.insecure_channel(broker.address) as channel:
        request = admin_service_pb2.GetStateRequest()
        state = (await AdminServiceStub(channel).GetState(request, timeout=10)).state
    found = []
    for pool in state.pools:
        used = (pool.seats_used, pool.queue_length, pool.worker_task_count, pool.seats_lent)
        if any(used) and pool.name != "admin":
            found.append(f"pool {pool.name}: seats, queue, tasks, lent {used}")
        if pool.connection_count > pool.connection_limit:
            found.append(f"pool {pool.name}: {pool.connection_count} connections of {pool.connection_limit}")
        if pool.name in ("dashboard", "exploration") and pool.worker_count != 1:
            found.append(f"pool {pool.name}: {pool.worker_count} worker processes")
    found += [
        f"database: {backend.seats_used} seats, breaker {backend.breaker}"
        for backend in state.backends
        if backend.seats_used or backend.breaker != admin_service_pb2.BREAKER_STATE_CLOSED
    ]
    found += [f"cache {cache.name} is not available" for cache in state.caches if not cache.available]
    return found


async def _sessions(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        counts = [await connection.fetchval(statement) for statement in (_OPEN, _PREPARED)]
    finally:
        await connection.close()
    return [f"transactions open, prepared: {counts}"] if any(counts) else []


def _processes(family: set[psutil.Process]) -> list[str]:
    alive = [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    return [f"process {p.pid} outlived its parent" for p in alive]


def _files(home: Path) -> list[str]:
    words = ("tmp", "part", "partial")
    return [f"file {path}" for path in home.rglob("*") if path.is_file() and path.suffix.strip(".") in words]
