"""Waiting for processes that are not our children."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil


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


def left_of(family: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after so many seconds, waited for by the kernel; ended ones may be reaped late, or never."""
    watched: dict[int, psutil.Process] = {}
    poll, end = select.poll(), time.monotonic() + seconds
    try:
        for process in family:
            if process.is_running():
                try:
                    descriptor = os.pidfd_open(process.pid)
                except ProcessLookupError:
                    continue
                watched[descriptor] = process
                poll.register(descriptor, select.POLLIN)
        running = dict(watched)
        while running and (left := end - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                poll.unregister(descriptor)
                del running[descriptor]
        return list(running.values())
    finally:
        for descriptor in watched:
            os.close(descriptor)


def begun(pid: int) -> str:
    """When the process began, in ticks of the machine: with its id it names the process for ever. Empty without one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def kill_same(pid: int, when: str) -> bool:
    """Kills the process with the id if it began then; ids are given again, and others have processes too."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not when or begun(pid) != when:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def runs(pid: int) -> bool:
    """Whether there is such a process, other than one that has ended and only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False
