"""Errors of work in worker processes."""

from __future__ import annotations

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName

_RETRY_SECONDS = 0.5


def too_large(memory: int) -> BrokerError:
    """A task needs more memory than its worker may take."""
    text = (
        f"The result needs more memory than a worker process may take ({memory >> 20} MiB). "
        "Narrow the query, or submit an export job, which works in blocks."
    )
    return BrokerError(
        ErrorReason.RESULT_TOO_LARGE, text, metadata={"limit": "worker_memory", "value": str(memory)}
    )


def out_of_time(pool: PoolName) -> BrokerError:
    """The deadline passed while a task waited for a worker, or while it ran; the worker's task has been ended."""
    text = "The deadline passed while the result was being computed. Allow more time, or narrow the query."
    return BrokerError(ErrorReason.DEADLINE_EXCEEDED, text, metadata={"pool": pool.value})


def worker_lost(pool: PoolName) -> BrokerError:
    """Two workers in a row died over the same task."""
    text = "A worker process died while it computed the result, and so did the next one. Try again."
    return BrokerError(
        ErrorReason.WORKER_LOST, text, retry_after=_RETRY_SECONDS, metadata={"pool": pool.value}
    )


def cluster_lost(pool: PoolName) -> BrokerError:
    """A worker of the cluster ended over a task, or could not be reached any more."""
    text = "A worker of the cluster was lost while it computed the result. Try again."
    return BrokerError(
        ErrorReason.WORKER_LOST, text, retry_after=_RETRY_SECONDS, metadata={"pool": pool.value}
    )


def draining() -> BrokerError:
    """The workers have been told to go."""
    text = "The broker is stopping. Ask another replica, or this one again in a moment."
    return BrokerError(ErrorReason.DRAINING, text, retry_after=_RETRY_SECONDS)


def unreadable(path: str, detail: str) -> BrokerError:
    """A local file of a segment is missing, or is not what it should be; ``segment`` in the metadata is its path."""
    text = (
        f"A local file of a rollup cannot be read ({detail}). It is fetched again; until then, answers come from the "
        "source. Ask again."
    )
    return BrokerError(
        ErrorReason.STORE_REJECTED,
        text,
        retry_after=_RETRY_SECONDS,
        metadata={"segment": path, "detail": detail},
    )
