"""What a broker process is doing: domain to protobuf."""

from __future__ import annotations

from broker.domain.state import BackendState, BrokerState, CacheState, JobQueueState, PoolState
from broker.transport.encode_status import duration, timestamp
from broker.transport.enums import BREAKER
from querybroker.v1 import admin_service_pb2


def encode_state(state: BrokerState) -> admin_service_pb2.BrokerState:
    """The whole state."""
    return admin_service_pb2.BrokerState(
        instance_id=state.instance_id,
        version=state.version,
        start_time=timestamp(state.start_time),
        draining=state.draining,
        pools=[_pool(pool) for pool in state.pools],
        backends=[_backend(backend) for backend in state.backends],
        caches=[_cache(cache) for cache in state.caches],
        jobs=_jobs(state.jobs),
        event_loop_lag_p99=duration(state.event_loop_lag_p99),
        resident_byte_count=state.resident_byte_count,
        read_time=timestamp(state.read_time),
        fleet=[
            admin_service_pb2.FleetMember(
                instance_id=member.instance_id,
                kind=member.kind,
                host=member.host,
                backend=member.backend,
                seats=member.seats,
                seats_used=member.seats_used,
                demand=member.demand,
            )
            for member in state.fleet
        ],
    )


def _pool(pool: PoolState) -> admin_service_pb2.PoolState:
    return admin_service_pb2.PoolState(
        name=pool.name.value,
        seat_limit=pool.seat_limit,
        seats_used=pool.seats_used,
        seats_lent=pool.seats_lent,
        queue_length=pool.queue_length,
        oldest_wait=duration(pool.oldest_wait),
        connection_count=pool.connection_count,
        connection_limit=pool.connection_limit,
        worker_count=pool.worker_count,
        worker_task_count=pool.worker_task_count,
        admitted_count=pool.admitted_count,
        refused_count=pool.refused_count,
        worker_restart_count=pool.worker_restart_count,
        tenants=[
            admin_service_pb2.TenantQueueState(
                tenant=tenant.tenant,
                queue_length=tenant.queue_length,
                seats_used=tenant.seats_used,
                share=tenant.share,
            )
            for tenant in pool.tenants
        ],
    )


def _backend(backend: BackendState) -> admin_service_pb2.BackendState:
    return admin_service_pb2.BackendState(
        name=backend.name,
        breaker=BREAKER.proto(backend.breaker),
        limit=backend.limit,
        relative_speed=backend.relative_speed,
        seats_used=backend.seats_used,
        replica_lag=duration(backend.replica_lag),
        server_version=backend.server_version,
        last_error=backend.last_error,
    )


def _cache(cache: CacheState) -> admin_service_pb2.CacheState:
    return admin_service_pb2.CacheState(
        name=cache.name,
        entry_count=cache.entry_count,
        byte_count=cache.byte_count,
        byte_limit=cache.byte_limit,
        hit_count=cache.hit_count,
        miss_count=cache.miss_count,
        available=cache.available,
    )


def _jobs(jobs: JobQueueState) -> admin_service_pb2.JobQueueState:
    return admin_service_pb2.JobQueueState(
        queued_count=jobs.queued_count,
        running_count=jobs.running_count,
        dead_lettered_count=jobs.dead_lettered_count,
        oldest_queued_age=duration(jobs.oldest_queued_age),
        workers=[
            admin_service_pb2.JobWorkerState(
                worker_id=worker.worker_id,
                host=worker.host,
                slot_count=worker.slot_count,
                running_count=worker.running_count,
                lease_expire_time=timestamp(worker.lease_expire_time),
            )
            for worker in jobs.workers
        ],
    )
