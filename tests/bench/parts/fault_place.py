"""A broker whose ways to PostgreSQL and Valkey lead through proxies, a refresher, and who asks and writes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import grpc.aio

from broker.adapters.migrate import COMPONENTS, migrate
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.bench.parts import fault_world
from tests.bench.parts.fault_deck import Faults
from tests.bench.parts.fault_leaks import leaks, told
from tests.bench.parts.fault_load import Load
from tests.bench.parts.fault_refresher import Refresher
from tests.support.eventually import eventually
from tests.support.pg import temporary_server
from tests.support.proxy import proxied
from tests.support.rollups import built, entered, install
from tests.support.server import running_broker
from tests.support.valkey import valkey_server

AFTER = 25
"""Calls once all is well again."""


@dataclass(frozen=True)
class Broken:
    """Everything that is broken, and who notices."""

    faults: Faults
    load: Load
    home: Path

    async def play(self, number: int, pace: float) -> list[str]:
        """So many faults under load, then calm: what is left over. What was wrong is in the load."""
        asking = asyncio.create_task(self.load.run())
        causing = asyncio.create_task(self.faults.cause(number, pace))
        await asyncio.wait((asking, causing), return_when=asyncio.FIRST_COMPLETED)
        for task in (causing, asking):
            task.cancel()
        for outcome in await asyncio.gather(causing, asking, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        f = self.faults
        left = await leaks(f.broker, f.postgres.dsn(), f.refresher.family, self.home)
        await self._calm()
        return left + told([f.broker.log, *f.refresher.logs])

    async def _calm(self) -> None:
        """Once everything is given back, everything is answered before long."""
        rng = random.Random(0)
        async with grpc.aio.insecure_channel(self.faults.broker.address) as channel:

            async def answered() -> bool:
                before = self.load.reasons.copy()
                for _ in range(AFTER):
                    await self.load.once(QueryServiceStub(channel), rng, patient=True)
                self.load.calm = self.load.reasons - before
                del self.load.calm["POLICY_UNSATISFIABLE"]  # an answer to who asked the cache alone
                return not self.load.calm

            with suppress(AssertionError):  # what is left tells it
                await eventually(answered, "everything is answered")


@asynccontextmanager
async def broken(rng: random.Random) -> AsyncIterator[Broken]:
    """Everything is started, and whole; ended in order."""
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="faults-")))
        postgres = stack.enter_context(temporary_server())
        valkey = stack.enter_context(valkey_server())
        dsn = postgres.dsn()
        connection = await asyncpg.connect(dsn)
        await fault_world.make_tables(connection)
        await connection.close()
        for component in COMPONENTS:
            await migrate(dsn, component)
        config = home / "broker.yaml"
        config.write_text(json.dumps({"datasets": fault_world.datasets()}))  # JSON is YAML
        await install(dsn, config)
        store, address = await stack.enter_async_context(proxied(dsn))
        cache, shared = await stack.enter_async_context(proxied(valkey.url))
        settings = {
            "rollups.mirror_dir": str(home / "mirror"),
            "rollups.verify_share": 0,
            "pools.dashboard.workers": 1,
            "pools.exploration.workers": 1,
            "cache.memory": 1 << 20,
            "cache.shared": shared,
            "cache.poll": 0.1,
        }
        refresher = Refresher(address, home, config, settings)
        serving = running_broker(address, home / "broker", config=config, overrides=settings)
        _, broker = await asyncio.gather(
            stack.enter_async_context(refresher.running()), entered(stack, serving)
        )
        await built(dsn, config)
        writer = fault_world.Writer(dsn)
        writing = asyncio.create_task(writer.run())
        stack.push_async_callback(_ended, writing)
        load = Load(broker.address, fault_world.Truth(), writer, random.Random(rng.random()))
        yield Broken(Faults(postgres, store, valkey, cache, broker, refresher, rng), load, home)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
