"""The server processes of one cluster, seen from outside: found by title, judged by the lock file, ended.

Processes are recognised by the ``cluster_name`` that PostgreSQL shows in every title and that its postmaster
carries in its arguments. Titles are readable for everybody, unlike working directories, which root may not
read without CAP_SYS_PTRACE, as in a container. Process ids alone are not trusted: they are used again.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

_PROGRAM: Final = "postgres"
_LOOK_SECONDS: Final = 0.01
_STATUS_LINE: Final = 7  # of postmaster.pid, counted from 0; the first line is the process id


def members(name: str) -> list[psutil.Process]:
    """Return all live processes of the cluster whose ``cluster_name`` is `name`."""
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == _PROGRAM and any(name in part for part in process.info["cmdline"] or ())
    ]


def kill(name: str) -> None:
    """Kill all processes of the cluster and return when none is left."""
    while alive := members(name):
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _wait(alive, 0.1)


def end_survivors(name: str, pgdata: Path, patience_s: float) -> None:
    """End what an owner that was killed has left running: the postmaster in order, then all others by force.

    Without a postmaster a session may run its query to the end, and PostgreSQL does not start beside it.
    """
    pid = recorded_postmaster(pgdata)
    for process in members(name):
        if process.pid == pid:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
            _wait([process], patience_s)
    kill(name)


def _wait(alive: list[psutil.Process], seconds: float) -> None:
    """Return when all have ended, or after so many seconds.

    One that has ended and is not collected has ended: its new parent may do so late, or never.
    """
    end = time.monotonic() + seconds
    while alive and time.monotonic() < end:
        _, waiting = psutil.wait_procs(alive, timeout=_LOOK_SECONDS)
        alive = [process for process in waiting if not _is_zombie(process)]


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def recorded_postmaster(pgdata: Path) -> int | None:
    """Return the process id in the cluster's lock file, None without one; the process may be long gone."""
    lines = _lock_file_lines(pgdata)
    return int(lines[0]) if lines else None


def accepts_connections(pgdata: Path, parent: int) -> bool:
    """Whether the postmaster that is a child of `parent` has opened the cluster for clients."""
    lines = _lock_file_lines(pgdata)
    if len(lines) <= _STATUS_LINE or lines[_STATUS_LINE].strip() != "ready":
        return False
    try:
        # The file is still there, and says ready, after the server was killed.
        process = psutil.Process(int(lines[0]))
        return process.ppid() == parent and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def forget_lock_files(pgdata: Path, sockets: Path) -> None:
    """Remove lock files that name no live PostgreSQL. Call it only when no member is alive.

    PostgreSQL itself overlooks a process id that is free, but refuses to start when the id has been given to
    any other program, or is that of a zombie, which in a container may stay for good. A lock file that names
    some other PostgreSQL is left for it to judge.
    """
    pid = recorded_postmaster(pgdata)
    if pid is not None and not _is_live_postgres(pid):
        (pgdata / "postmaster.pid").unlink()
    for file in sockets.glob(".s.PGSQL.*"):
        file.unlink()


def _lock_file_lines(pgdata: Path) -> list[str]:
    try:
        return (pgdata / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _is_live_postgres(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name() == _PROGRAM and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
