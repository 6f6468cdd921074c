"""Waiting for what another process shows only when it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PAUSE = 0.02
PATIENCE = 30.0


async def eventually(holds: Callable[[], Awaitable[bool]], what: str, patience: float = PATIENCE) -> None:
    """Asks until it holds. The patience is for slow machines only; nothing is concluded from how long it took.

    Raises:
        AssertionError: It never held.
    """
    try:
        async with asyncio.timeout(patience):
            # PostgreSQL and other processes signal nothing, so they are asked again and again.
            while not await holds():  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None
