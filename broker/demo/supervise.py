"""Run one command that never outlives its owner. Executed as a script; standard library only.

    python -I -S supervise.py UID GID COMMAND [ARGUMENT ...]

Standard input is a pipe whose other end only the owner holds. Every byte written to it is the number of a
signal for the command; its end means that the owner is gone, however it died, and the command is asked to
stop, harder from step to step. The kernel closes the pipe on ``kill -9`` too, so nothing is left running.

Why a pipe and not ``PR_SET_PDEATHSIG``: that signal is sent when the *thread* that started the child ends,
which under asyncio may be a short-lived executor thread, and it is known to Linux only.

When the command itself is killed, what it has started goes with it: on Linux those processes become children
of this one, which kills and collects them, also in a container whose process 1 collects nothing.

The exit code is the command's, 128 + n after signal n, 127 when the command cannot be run.
"""

from __future__ import annotations

import os
import select
import signal
import sys

# For PostgreSQL: fast shutdown (sessions end, a checkpoint is written), immediate shutdown, the last resort.
# With the seconds to wait after each.
ESCALATION: tuple[tuple[int, float | None], ...] = (
    (signal.SIGINT, 20.0),
    (signal.SIGQUIT, 5.0),
    (signal.SIGKILL, None),
)
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(arguments: list[str]) -> int:
    """Give up root for the account given, start the command, and watch it and the owner to the end."""
    uid, gid, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    _adopt_orphans()
    # From here on nothing may be imported: the new account need not be able to read Python's own files.
    if os.geteuid() != uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    events, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    # Handlers that do nothing: each signal arrives as a byte on the wakeup pipe, where select() waits.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        child = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsigdef=[signal.SIGPIPE],  # Python ignores it, and an ignored signal stays ignored in a child
        )
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        return 127
    return _watch(child, events)


def _watch(child: int, events: int) -> int:
    steps = iter(ESCALATION)
    stopping, patience = False, None
    while True:
        readable, _, _ = select.select([events] if stopping else [events, 0], [], [], patience)
        signals = os.read(events, 512) if events in readable else b""
        if signal.SIGCHLD in signals:
            code = _collect(child)
            if code is not None:
                return code if code >= 0 else 128 - code
        orders = os.read(0, 512) if 0 in readable else None
        for number in orders or b"":
            os.kill(child, number)
        leave = orders == b"" or signal.SIGTERM in signals or signal.SIGINT in signals
        if not readable or (leave and not stopping):
            stopping = True
            number, patience = next(steps)
            os.kill(child, number)


def _collect(child: int) -> int | None:
    """Collect what has ended; once `child` has, end and collect all the rest and return its exit code."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            break
        if pid == 0:
            return None
    try:
        listing = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        for orphan in os.read(listing, 1 << 16).split():
            os.kill(int(orphan), signal.SIGKILL)
        while True:
            os.wait()
    except (ChildProcessError, FileNotFoundError):  # none is left; or this system has no such list
        return os.waitstatus_to_exitcode(status)


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        import ctypes

        # Without it orphans go to process 1, as on other systems.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
