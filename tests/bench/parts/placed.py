"""Whose processors are whose: a database beside its callers on one machine, or, for want of a second one, as if apart.

In production the database is another machine. On one machine it takes the processors from who calls it: a broker that
wants 2 ms of a processor waits for it behind as many queries as there are seats, and the figures tell how the kernel
shares out processors. Apart, the database has half of them to itself, and broker and traffic share the other half.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

import psutil

APART = "the database has {database} to itself; broker and traffic share {others}"
TOGETHER = "database, broker and traffic share all processors"
ONE_MACHINE = "_one_machine"
"""Ends the names of figures of databases that share all processors with who calls them."""


@contextmanager
def apart(database: int) -> Iterator[str]:
    """Parts the processors between the process of a database, by its id, and this process with all that it starts.

    Yields what is so, in words. With one processor, or where the system cannot do it, nothing is parted.
    """
    if sys.platform != "linux" or len(every := sorted(os.sched_getaffinity(0))) < 2:
        yield TOGETHER
        return
    half = len(every) // 2
    try:
        bind(os.getpid(), every[half:])
        bind(database, every[:half])
        yield APART.format(database=_named(every[:half]), others=_named(every[half:]))
    finally:
        bind(os.getpid(), every)
        bind(database, every)


def bind(pid: int, processors: Collection[int]) -> None:
    """Lets a process and all below it, with all their threads, run on these processors only, and what they start."""
    assert sys.platform == "linux"
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                for thread in process.threads():
                    os.sched_setaffinity(thread.id, processors)


def _named(processors: Collection[int]) -> str:
    return f"processor{'s' if len(processors) > 1 else ''} {', '.join(map(str, processors))}"
