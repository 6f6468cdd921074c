"""Lets the limits of the databases hear what these say, what becomes of them, and how the machine is doing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_pressure import PgPressure
from broker.app.backends import news_of
from broker.app.behind import behind
from broker.app.options import connection_settings
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.pool import PRIMARY, LimitMode, PoolLimits, PoolName
from broker.policy.admission.values import Signal
from broker.policy.breaker import Transition
from broker.runtime.admission import Admission
from broker.runtime.machine import ProcessorShare
from broker.runtime.memory import memory_share
from broker.runtime.pressure import PressureWatch
from broker.telemetry.instruments import Telemetry


class News:
    """Passes on what is noticed of databases. ``spared`` are replicas whose pools read the primary when they are away.

    Both methods are listeners, called on the event loop by whoever notices.
    """

    def __init__(self, admission: Admission, telemetry: Telemetry, spared: Collection[str] = ()) -> None:
        self._admission, self._telemetry = admission, telemetry
        self._spared = frozenset(spared)
        self._known = frozenset(load.name for load in admission.backends())

    def changed(self, backend: str, change: Transition) -> None:
        """The breaker of a database changed."""
        news = news_of(change)
        if news is None:
            return
        self.tell(backend, news)
        if backend in self._spared:
            self.tell(PRIMARY, Signal.RECOVERED if news is Signal.RECOVERED else Signal.REPLICA_LOST)

    def tell(self, backend: str, news: Signal) -> None:
        """A database refused something, was lost, or is back."""
        if backend in self._known:
            self._telemetry.backend_signal(backend, news.value)
            self._admission.signal(backend, news)


@asynccontextmanager
async def heard(
    settings: Settings,
    limits: Mapping[PoolName, PoolLimits],
    pools: PgPools,
    admission: Admission,
    own: Process,
) -> AsyncIterator[None]:
    """The limits hear of their databases while the block runs. Static ones do not ask: nothing would follow."""
    database = settings.database
    names = {dsn: name for name, dsn in database.replicas.items()}
    spared = {names[pool.replica_dsn] for pool in limits.values() if pool.replica_dsn and pool.fallback}
    news = News(admission, own.telemetry, spared)
    pools.listen(news.changed, news.tell)
    addresses = {PRIMARY: database.dsn, **database.replicas}
    moving = [
        load.name for load in admission.backends() if database.limits[load.name].mode is not LimitMode.STATIC
    ]
    if not moving:
        yield
        return
    made = connection_settings(database)
    gauges = {name: PgPressure(name, addresses[name], made, own.clock.monotonic) for name in moving}
    processors = ProcessorShare(own.clock.monotonic)
    memory = memory_share(settings.server.memory_limit)
    watch = PressureWatch(gauges, processors.read, memory, admission.signal, own.telemetry)
    try:
        async with behind({"pressure": watch.run()}):
            yield
    finally:
        for gauge in gauges.values():
            gauge.close()
