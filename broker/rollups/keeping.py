"""Keeping the lease of a build for as long as the build runs, and ending the build when it cannot be kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from broker.domain.errors import BrokerError
from broker.ports.rollups import BuildLease, LeaseLostError, RollupStore

T = TypeVar("T")
logger = logging.getLogger(__name__)


async def while_kept(
    store: RollupStore,
    lease: BuildLease,
    seconds: float,
    now: Callable[[], float],
    build: Coroutine[Any, Any, T],
) -> T:
    """What the build gives. The lease, which was given a moment ago, is renewed for so many ``seconds`` at a time.

    Raises:
        LeaseLostError: It could not be renewed in time, and the build was cancelled.
    """
    work = asyncio.create_task(build)
    keeping = asyncio.create_task(_keep(store, lease, seconds, now))
    try:
        await asyncio.wait({work, keeping}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise LeaseLostError("the lease could not be renewed in time")
        return work.result()
    finally:
        for task in (work, keeping):
            task.cancel()
        await asyncio.gather(work, keeping, return_exceptions=True)


async def _keep(store: RollupStore, lease: BuildLease, seconds: float, now: Callable[[], float]) -> None:
    """Renews the lease until it is lost. While the database is away the lease runs on, but not beyond its time."""
    end = now() + seconds
    while (left := end - now()) > 0:
        await asyncio.sleep(min(left, seconds / 3))
        began = now()
        try:
            async with asyncio.timeout(max(0.0, end - began)):
                await store.renew(lease, seconds)
        except LeaseLostError:
            return
        except (BrokerError, TimeoutError) as error:
            logger.warning("a lease of %s could not be renewed: %s", lease.rollup, error)
        else:
            end = began + seconds
