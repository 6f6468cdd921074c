"""What every process of the product has: a name, clocks, chance, telemetry."""

from __future__ import annotations

import asyncio
import importlib.metadata
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.app.options import telemetry_options
from broker.config.settings import TelemetrySettings
from broker.runtime.clock import SystemClock
from broker.runtime.loop import LagMonitor
from broker.runtime.state import Identity, observe_memory
from broker.telemetry import setup
from broker.telemetry.instruments import Telemetry

FLUSH_SECONDS = 5.0
"""Time that telemetry gets to send what is left when a process ends."""


@dataclass(frozen=True, slots=True)
class Process:
    """The process as its parts see it. ``metrics_address`` is empty without a Prometheus endpoint."""

    identity: Identity
    clock: SystemClock
    random: random.Random
    telemetry: Telemetry
    lag: LagMonitor
    metrics_address: str


def version() -> str:
    """Version of the server that is installed."""
    return importlib.metadata.version("querybroker-server")


@asynccontextmanager
async def process(role: str, settings: TelemetrySettings, index: int | None = None) -> AsyncIterator[Process]:
    """Sets telemetry up, first of all, and takes it down, last of all. ``index`` is its place among equal ones."""
    clock, chance = SystemClock(), random.SystemRandom()
    place = role if index is None else f"{role}-{index}"
    name = f"{place}-{socket.gethostname()}-{chance.getrandbits(32):08x}"
    identity = Identity(name, version(), clock.now())
    session = setup.start(telemetry_options(settings, name, identity.version, index))
    lag = LagMonitor(clock, session.telemetry)
    forget = observe_memory(session.telemetry)
    lag.start()
    scrape = session.scrape
    address = f"{settings.prometheus_host}:{scrape.port}" if scrape is not None else ""
    try:
        yield Process(identity, clock, chance, session.telemetry, lag, address)
    finally:
        lag.stop()
        forget()
        await asyncio.to_thread(session.close, FLUSH_SECONDS)
