"""``broker serve --processes N``: the parent, which serves nothing and keeps N brokers running on one port.

It imports no gRPC, reads the configuration to know the address, and is the one process that the system sees: signals
and exit code are its own. The brokers share the port through SO_REUSEPORT, and the seats of databases through leases.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from broker.app.loop import INTERRUPTED, StartError
from broker.config.settings import Settings
from broker.runtime import child
from broker.runtime.child import Said
from broker.runtime.clock import SystemClock
from broker.runtime.loop import run as run_on_uvloop
from broker.runtime.reserve import ReservedPort
from broker.runtime.signals import SIGNALS
from broker.runtime.supervisor import Supervisor
from broker.telemetry import logs
from broker.telemetry.options import LogFormat

HIGHEST_PORT = 65_535
_LOG = logging.getLogger(__name__)


def run_processes(
    settings: Settings,
    count: int,
    command: Sequence[str],
    *,
    ready: Callable[[str, Sequence[Said]], None],
    stop: Callable[[], asyncio.Event],
) -> int:
    """Runs ``COMMAND --index I`` for every I below ``count`` until a signal or ``stop``; returns the exit code.

    ``ready`` is told the address and what every process says of itself once all serve; ``stop`` makes its event on the
    running loop.
    """
    telemetry = settings.telemetry
    name = {"service": telemetry.service_name, "instance": f"parent-{socket.gethostname()}-{os.getpid()}"}
    release = logs.configure(sys.stderr, LogFormat(telemetry.log_format), telemetry.log_level.upper(), name)
    try:
        return run_on_uvloop(_run(settings, count, command, ready, stop))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (StartError, OSError) as error:
        sys.stderr.write(f"broker: {error}\n")
        return 1
    finally:
        release()


async def _run(
    settings: Settings,
    count: int,
    command: Sequence[str],
    ready: Callable[[str, Sequence[Said]], None],
    stop: Callable[[], asyncio.Event],
) -> int:
    server, scrape = settings.server, settings.telemetry.prometheus_port
    if scrape and scrape + count - 1 > HIGHEST_PORT:
        raise StartError(f"{count} processes need the metrics ports from {scrape} on; choose a lower one")
    with closing(ReservedPort(server.host, server.port)) as reserved:
        host = f"[{server.host}]" if ":" in server.host else server.host
        address = f"{host}:{reserved.port}"

        async def start(index: int) -> child.Child:
            own = [*command, "--index", str(index), "--set", f"server.port={reserved.port}"]
            if scrape:
                own += ["--set", f"telemetry.prometheus_port={scrape + index}"]
            return await child.start(own)

        def serves(infos: Sequence[Said]) -> None:
            _LOG.info("%d processes serve at %s", count, address)
            ready(address, infos)

        supervisor = Supervisor(start, count, SystemClock(), serves)
        with _signals(supervisor):
            leaving = asyncio.create_task(_stopped(stop(), supervisor))
            try:
                return await supervisor.run()
            finally:
                leaving.cancel()


async def _stopped(event: asyncio.Event, supervisor: Supervisor) -> None:
    await event.wait()
    supervisor.stop()


@contextmanager
def _signals(supervisor: Supervisor) -> Iterator[None]:
    """Every signal to stop goes to the supervisor while the block runs."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, supervisor.stop)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
