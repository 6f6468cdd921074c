"""The inside of a worker process: one request at a time, until the broker closes the socket."""

from __future__ import annotations

import os
import resource
import socket
import time
import traceback
from pathlib import Path
from pkgutil import resolve_name

from broker.aggregation import tasks
from broker.aggregation.framing import Reply, Request, receive, send
from broker.aggregation.refusals import too_large
from broker.domain.errors import BrokerError

_PAGE = resource.getpagesize()


def serve(connection: socket.socket, memory: int) -> None:
    """Answers requests; ``memory`` bytes may be taken on top of what a warm process holds.

    A worker that still holds more than half of that after a task asks to be replaced: memory comes back in full only
    from a process that ends.
    """
    tasks.warm_up()
    limit = _held() + memory
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    send(connection, Reply(os.getpid()))
    while (request := receive(connection)) is not None:
        send(connection, _answer(request, memory, limit - memory // 2))


def _answer(request: Request, memory: int, plenty: int) -> Reply:
    started = time.time_ns()
    value, error, fault, spent = None, None, "", False
    try:
        value = resolve_name(request.function)(*request.arguments)
    except BrokerError as refused:
        error = refused
    except MemoryError:
        error, spent = too_large(memory), True
    except BaseException as unexpected:  # noqa: BLE001 - a panic in Polars is no Exception, and is told like any other
        fault = "".join(traceback.format_exception(unexpected))
        spent = not isinstance(unexpected, Exception)
    spent = spent or _held() > plenty
    return Reply(os.getpid(), value, error, fault, started, time.time_ns(), request.trace, spent)


def _held() -> int:
    """Bytes of writable memory that the limit counts."""
    return int(Path("/proc/self/statm").read_bytes().split()[5]) * _PAGE
