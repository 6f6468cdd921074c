"""The state of the process for operators."""

from __future__ import annotations

import asyncio

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName
from broker.domain.state import BackendState, BrokerState, CacheState, JobQueueState
from broker.runtime.loop import LagMonitor
from broker.runtime.state import Identity, PoolResources, Sources, StateReader, observe_memory
from broker.telemetry.instruments import Telemetry
from tests.support.metrics import read
from tests.support.seats import POOL, Recording, ask, hold, shell
from tests.support.virtual_time import START, VirtualClock, run

IDENTITY = Identity("i-1", "1.2.3", START)


def resources(pool: PoolName) -> PoolResources:
    assert pool is POOL
    return PoolResources(3, 4, 2, 1, 7)


async def jobs() -> JobQueueState:
    return JobQueueState(queued_count=5)


async def no_jobs() -> JobQueueState:
    raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "The job database cannot be reached.")


def test_the_state_is_put_together_from_its_sources() -> None:
    async def main() -> BrokerState:
        admission = shell(Recording(seats=1))
        sources = Sources(
            resources=resources,
            backends=lambda: (BackendState("primary"),),
            caches=lambda: (CacheState("memory"),),
            jobs=jobs,
        )
        clock = VirtualClock()
        reader = StateReader(IDENTITY, clock, admission, LagMonitor(clock, Telemetry.off()), sources)
        holder = asyncio.create_task(hold(admission, ask("1"), 2.0))
        waiter = asyncio.create_task(hold(admission, ask("2"), 2.0))
        await asyncio.sleep(1.0)
        state = await reader.read()
        await asyncio.gather(holder, waiter)
        return state

    state = run(main())
    assert (state.instance_id, state.version, state.start_time) == ("i-1", "1.2.3", START)
    assert (state.read_time - START).total_seconds() == 1.0
    assert not state.draining
    (pool,) = state.pools
    assert (pool.seats_used, pool.queue_length, pool.oldest_wait) == (1, 1, 1.0)
    assert (pool.connection_count, pool.connection_limit) == (3, 4)
    assert (pool.worker_count, pool.worker_task_count, pool.worker_restart_count) == (2, 1, 7)
    assert state.backends == (BackendState("primary"),)
    assert state.caches == (CacheState("memory"),)
    assert state.jobs.queued_count == 5
    assert state.event_loop_lag_p99 == 0.0
    assert state.resident_byte_count > 1 << 20


def test_a_job_store_that_is_down_does_not_hide_the_rest() -> None:
    async def main() -> None:
        admission = shell(Recording(seats=1))
        clock = VirtualClock()
        lag = LagMonitor(clock, Telemetry.off())
        admission.drain()
        for sources in (Sources(), Sources(jobs=no_jobs)):
            state = await StateReader(IDENTITY, clock, admission, lag, sources).read()
            assert state.jobs == JobQueueState()
            assert state.draining
            assert state.pools[0].connection_limit == 0
            assert (state.backends, state.caches) == ((), ())

    run(main())


def test_memory_is_a_metric() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    forget = observe_memory(Telemetry(NoOpTracerProvider(), meters))
    assert read(reader)["process.memory.usage"][()] > 1 << 20
    forget()
    assert "process.memory.usage" not in read(reader)
    meters.shutdown()
