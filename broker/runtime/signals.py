"""Signals: the first asks the program to stop in order, the second cancels what still runs, the third kills."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from broker.runtime.lifecycle import Program

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOG = logging.getLogger(__name__)


@contextmanager
def handled(
    program: Program, grace: float | None = None, signals: Sequence[signal.Signals] = SIGNALS
) -> Iterator[None]:
    """Listens while the block runs; what has not ended ``grace`` seconds after the first signal is cancelled."""
    loop = asyncio.get_running_loop()

    def forget() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def receive(number: signal.Signals) -> None:
        if program.stopping:
            _LOG.warning("%s again: ending at once", number.name)
            forget()
            program.abort()
        else:
            _LOG.info("%s: stopping", number.name)
            program.stop(grace)

    for number in signals:
        loop.add_signal_handler(number, receive, number)
    try:
        yield
    finally:
        forget()
