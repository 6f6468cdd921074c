"""Waiting for processes that are not our children."""

from __future__ import annotations

import asyncio
import os


async def ended(pid: int) -> None:
    """Returns when the process has ended; one that only waits to be reaped has. Waits on the kernel, not on a clock."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, over.set)
    try:
        async with asyncio.timeout(60):
            await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
