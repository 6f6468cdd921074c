"""The process that worker processes are forked from: it has imported what they need, and does nothing but fork.

Started by the broker as a program of its own (never forked from the broker, whose gRPC threads do not survive a fork),
it holds no lock and no connection. A worker then costs a fork, some ten milliseconds and the pages that it writes to,
instead of a third of a second and a copy of every library. Polars starts its threads at its first use, which is after
the fork. (``docs/decisions/0005-workers-of-our-own.md`` compares.)

Commands come as JSON datagrams on the socket given as the first argument, with the worker's socket attached; exits are
reported on it. When the broker is gone the socket ends, and so do all workers; when this process is gone, the kernel
ends them. SIGINT and SIGTERM are ignored: the broker decides when workers end, so that it can drain.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from broker.aggregation import worker

_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2), Linux."""
_LAST_WORDS = 4096


@dataclass(frozen=True, slots=True)
class Child:
    """A worker that has not been reaped; ``errors`` is the pipe that its standard error goes to."""

    pid: int
    errors: int


Children = dict[int, Child]
"""Workers by the number that the broker gave them."""


def main() -> None:
    """Forks, kills and reaps workers until the broker closes the socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    waker, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()  # no collection touches, and so copies, the pages that workers share
    children: Children = {}
    with suppress(ConnectionError):
        while _serve(control, waker, children):
            pass
    signal.set_wakeup_fd(-1)
    for child in children.values():
        os.kill(child.pid, signal.SIGKILL)


def _serve(control: socket.socket, waker: socket.socket, children: Children) -> bool:
    """Handles what has happened; False when the broker is gone."""
    ready, _, _ = select.select([control, waker], [], [])
    if waker in ready:
        waker.recv(4096)
        for report in _reap(children):
            control.send(json.dumps(report).encode())
    if control in ready:
        message, files, _, _ = socket.recv_fds(control, 4096, 1)
        if not message:
            return False
        command = json.loads(message)
        if "fork" in command:
            children[command["fork"]] = _fork(files[0], command["memory"], command["nice"], control)
        elif command["kill"] in children:
            os.kill(
                children[command["kill"]].pid, signal.SIGKILL
            )  # not reaped: the number is still this worker's
    return True


def _fork(file: int, memory: int, nice: int, control: socket.socket) -> Child:
    readable, writable = os.pipe()
    for end in (readable, writable):
        os.set_blocking(end, False)  # what nobody reads may fill the pipe, but must not stop the worker
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        control.close()
        _become_worker(parent, file, writable, memory, nice)
    os.close(file)
    os.close(writable)
    return Child(pid, readable)


def _become_worker(parent: int, file: int, errors: int, memory: int, nice: int) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(errors, 2)
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() == parent:  # else it died before the kernel was asked to watch
            os.nice(nice)
            worker.serve(socket.socket(fileno=file), memory)
            code = 0
    except BaseException:  # noqa: BLE001 - whatever it was, the broker is told, and this process ends
        traceback.print_exc()
    finally:
        os._exit(code)


def _reap(children: Children) -> Iterator[dict[str, object]]:
    """Reports of the workers that have ended, with the beginning of what they wrote to standard error."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        number = next(number for number, child in children.items() if child.pid == pid)
        child = children.pop(number)
        errors = b""
        with suppress(BlockingIOError):
            errors = os.read(child.errors, _LAST_WORDS)
        os.close(child.errors)
        text = errors.decode(errors="replace")
        yield {"exited": number, "code": os.waitstatus_to_exitcode(status), "errors": text}


if __name__ == "__main__":
    main()
