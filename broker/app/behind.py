"""Work that goes on behind the calls, for as long as a block runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

_LOG = logging.getLogger(__name__)


@asynccontextmanager
async def behind(work: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Runs coroutines by name, and cancels them in the end. One that ends by a mistake is told of in the log."""
    tasks = [asyncio.create_task(each, name=name) for name, each in work.items()]
    for task in tasks:
        task.add_done_callback(_ended)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ended(task: asyncio.Task[None]) -> None:
    """Tells of it at once: nobody waits for the task before the process ends, and calls are served without it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.error("%s ended", task.get_name(), exc_info=error)
