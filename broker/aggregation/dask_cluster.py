"""Tasks on the workers of a Dask cluster: the broker's end.

Dask places a task, carries its bytes and says when the worker that has it is gone; deadlines, cancels and memory limits
are those of our own worker processes, which run beside the Dask worker (:mod:`broker.aggregation.dask_station`). While
no cluster or no worker of it can be reached, everything is done on this machine.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from distributed import Client
from distributed.client import Future
from distributed.scheduler import KilledWorker

from broker.aggregation.dask_station import Station, flat, perform
from broker.aggregation.framing import Reply, Request, load
from broker.aggregation.refusals import cluster_lost, draining, out_of_time
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import ScanResult, SegmentBlock
from broker.domain.pool import PoolName
from broker.domain.segment import SegmentBuild

_BESIDE = 256 * 1024
"""Frames from this size on go to a worker directly, not by way of the scheduler, which then costs more."""
_CONNECT_SECONDS, _LOOK_SECONDS, _PAUSE_SECONDS = 5.0, 1.0, 2.0
_PRIORITY = {PoolName.DASHBOARD: 2, PoolName.EXPLORATION: 1, PoolName.JOB: 0}

logger = logging.getLogger(__name__)


class DaskCluster:
    """A Dask cluster at the ``address`` of its scheduler.

    It takes tasks of the pools in ``memory``, whose worker processes may take so many bytes there, when what is sent
    has at least ``smallest`` bytes and the function's name begins with ``functions``. Tasks that read local files stay
    on the machine that has the files. Starting waits ``patience`` seconds for the cluster at most.
    """

    def __init__(
        self,
        address: str,
        memory: Mapping[PoolName, int],
        smallest: int,
        functions: str,
        patience: float = 2.0,
    ) -> None:
        self._address = address
        self._memory = memory
        self._smallest = smallest
        self._functions = functions
        self._patience = patience
        self._numbers = itertools.count(1)
        self._client: Client | None = None
        self._threads = 0
        self._closed = False
        self._look = asyncio.Event()
        self._ending: set[asyncio.Task[Any]] = set()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def threads(self) -> int:
        """Tasks that the cluster can run at once; 0 while it cannot be reached."""
        return self._threads

    async def start(self) -> None:
        """Connects; what takes longer than the patience goes on behind, and so do further attempts."""
        # Dask tells of every task that a lost connection takes along, with a traceback; what matters is said here.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        looked = asyncio.Event()
        self._keeping = asyncio.create_task(self._keep(looked))
        with suppress(TimeoutError):
            await asyncio.wait_for(looked.wait(), self._patience)

    async def close(self) -> None:
        """Disconnects; the scheduler then releases what still runs for this client."""
        self._closed = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._ending:
            await asyncio.wait(self._ending, timeout=_CONNECT_SECONDS)

    async def run(self, pool: PoolName, request: Request, seconds: float) -> Reply | None:
        """The reply; None for a task that is to be done here."""
        client = self._client
        wanted = pool in self._memory and request.function.startswith(self._functions)
        reachable = client is not None and client.status == "running" and self._threads > 0
        if client is None or not reachable or not wanted or reads_files(request.arguments):
            return None
        frame = flat(request)
        if len(frame) < self._smallest:
            return None
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                data = await self._run(client, pool, frame, seconds)
        except TimeoutError as error:
            raise out_of_time(pool) if limit.expired() else cluster_lost(pool) from error
        except asyncio.CancelledError as error:
            if _asked():
                raise
            raise self._lost(pool, error) from error
        except (CancelledError, KilledWorker, OSError, RuntimeError) as error:
            raise self._lost(pool, error) from error
        if not data:
            self._look.set()  # a worker without our plugin: the scheduler was started anew
            return None
        reply: Reply = load(memoryview(data))
        if reply.error is not None and reply.error.reason is ErrorReason.DRAINING:
            raise cluster_lost(pool)
        return reply

    def _lost(self, pool: PoolName, error: BaseException) -> BrokerError:
        if self._closed:
            return draining()
        self._look.set()
        logger.warning("a task of the pool %s was lost by the cluster: %s", pool, error)
        return cluster_lost(pool)

    async def _run(self, client: Client, pool: PoolName, frame: bytes, seconds: float) -> bytes:
        key = f"{client.id}-{next(self._numbers)}"
        given = frame if len(frame) < _BESIDE else await self._moved(client, frame)
        arguments = (key, given, pool.value, self._memory[pool], seconds)
        options = {"key": key, "pure": False, "retries": 0, "priority": _PRIORITY.get(pool, 0)}
        future = client.submit(perform, *arguments, **options)
        reading = asyncio.create_task(client.gather(future, direct=True))
        try:
            data: bytes = await asyncio.shield(reading)
            return data
        finally:
            future.release()  # what still runs is ended by the plugin, which hears of it
            self._ending.add(
                reading
            )  # a cancelled gather leaves errors behind; this one sees the release and ends
            reading.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # seen: nobody waits any more

    async def _moved(self, client: Client, frame: bytes) -> Future[bytes]:
        """The frame in the memory of a worker. Once begun this ends, so that the cluster knows what it holds."""
        moving = asyncio.create_task(client.scatter(frame, direct=True, hash=False))
        self._ending.add(moving)
        moving.add_done_callback(self._ended)
        return await asyncio.shield(moving)

    async def _keep(self, looked: asyncio.Event) -> None:
        """Holds a connection, and makes a new one whenever it is lost."""
        told = False
        while not self._closed:  # Dask may swallow a cancel while it closes
            client = Client(
                self._address,
                asynchronous=True,
                set_as_default=False,
                timeout=_CONNECT_SECONDS,
                name="querybroker",
            )
            try:
                await client
                await client.register_plugin(Station())
                told = False
                await self._watch(client, looked)
            except Exception as error:  # noqa: BLE001 - whatever Dask raises, work stays here for now
                if not told:
                    logger.warning("no cluster at %s, work stays here: %s", self._address, error)
                told = True
            finally:
                self._client, self._threads = None, 0
                with suppress(Exception):  # it may be half open, or its scheduler gone
                    await client.close()
            looked.set()
            if not self._closed:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _watch(self, client: Client, looked: asyncio.Event) -> None:
        """Counts the workers until the connection is lost, or a task found a worker that does not know us."""
        while client.status == "running":
            self._threads = sum((await client.nthreads()).values())
            self._client = client
            looked.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), _LOOK_SECONDS)
            if self._look.is_set():
                self._look.clear()
                await client.register_plugin(Station())


def _asked() -> bool:
    """Whether somebody cancelled this task; Dask raises the same when it gives something up."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def reads_files(value: object) -> bool:
    """Whether arguments name files of this machine."""
    match value:
        case SegmentBlock():
            return True
        case SegmentBuild():
            return isinstance(value.base, str) and bool(value.base)
        case ScanResult():
            return reads_files(value.grouped) or reads_files(tuple(value.values.values()))
        case tuple():
            return any(map(reads_files, value))
        case _:
            return False
