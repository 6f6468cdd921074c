"""The lease of a worker process: renewed by a thread with an event loop and a connection of its own.

Whatever the process does with its main loop, the thread renews, so that a busy worker is not taken for a dead one. When
the lease could not be renewed for most of its time, others are about to take the jobs over: the thread kills the
children and has all attempts stopped. If only the database was away, the process goes on with a new lease and a new
identity. If the process itself stood still, or was declared lost, or does not let go of its attempts, it ends: whoever
runs it starts a fresh one, and nothing of the old state can do harm.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Protocol

from broker.domain.errors import BrokerError
from broker.jobs.loops import Failures
from broker.ports.jobs import WorkerIdentity, WorkerLease

EXIT_CODE = 75  # EX_TEMPFAIL: to be started again
FENCE_FRACTION = 0.8
PAUSE_FRACTION = 0.5
RENEWALS = 4

logger = logging.getLogger(__name__)


class LeaseHolder(Protocol):
    """The worker, as its lease sees it. All calls come from the lease's thread."""

    def gained(self, worker_id: str) -> None:
        """A lease has begun."""
        ...

    def lost(self, released: Callable[[], None]) -> None:
        """The lease has ended: every attempt must stop. ``released`` is to be called when they have."""
        ...

    def kill(self) -> None:
        """Kills the children, at once."""
        ...


class LeaseKeeper:
    """Keeps a process leased from ``start`` to ``stop``.

    ``connect`` makes the lease rows' connection, ``identity`` a new identity; ``seconds`` is the length of a lease;
    ``clock`` counts the time that the machine sleeps, if it can; ``exit`` ends the process and does not return.
    """

    def __init__(
        self,
        connect: Callable[[], WorkerLease],
        identity: Callable[[], WorkerIdentity],
        seconds: float,
        *,
        clock: Callable[[], float],
        exit: Callable[[int], None],
        rng: Random,
    ) -> None:
        self._connect = connect
        self._identity = identity
        self._seconds = seconds
        self._clock = clock
        self._exit = exit
        self._rng = rng
        self._thread: threading.Thread | None = None
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()  # of the thread's loop

    def start(self, holder: LeaseHolder) -> None:
        """Begins to try for a lease."""
        self._thread = threading.Thread(target=self._run, args=(holder,), name="lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the lease, as far as the database can be reached, and the thread; blocks until then."""
        if self._thread is None:
            self._loop.close()
            return
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self, holder: LeaseHolder) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main(holder))
        except SystemExit:
            return  # where `exit` has returned
        except Exception:
            # Nobody renews from here on, so others take the jobs over: whatever it was, nothing may go on.
            logger.exception("the lease's thread failed")
            holder.kill()
            self._exit(EXIT_CODE)

    async def _main(self, holder: LeaseHolder) -> None:
        lease = self._connect()
        try:
            while not self._stopping.is_set():
                begun = await self._begin(lease)
                if begun is None:
                    return
                worker_id, began = begun
                holder.gained(worker_id)
                await self._keep(lease, worker_id, began, holder)
                if self._stopping.is_set():
                    with suppress(BrokerError, TimeoutError):
                        async with asyncio.timeout(self._seconds):
                            await lease.end(worker_id)
                    return
                await self._let_go(holder)
        finally:
            await lease.close()

    async def _begin(self, lease: WorkerLease) -> tuple[str, float] | None:
        """Registers, trying for as long as it takes; the identity and when its lease began, None when stopped.

        Every try is under an identity of its own: one whose reply was lost may have been registered.
        """
        failures = Failures()
        while not self._stopping.is_set():
            identity, began = self._identity(), self._clock()
            try:
                async with asyncio.timeout(self._seconds):
                    await lease.register(identity, self._seconds)
                return identity.id, began
            except (BrokerError, TimeoutError) as error:
                if failures.notable(error):
                    logger.warning("no lease yet, after %d tries: %s", failures.count, error)
            await self._pause(self._rng.uniform(0.0, min(5.0, 0.1 * 2 ** min(failures.count, 8))))
        return None

    async def _keep(self, lease: WorkerLease, worker_id: str, renewed: float, holder: LeaseHolder) -> None:
        """Renews until it is to stop or has not succeeded for too long; ends the process when it stood still."""
        limit = FENCE_FRACTION * self._seconds
        pause, failures = self._seconds / RENEWALS, Failures()
        while not self._stopping.is_set():
            before = self._clock()
            await self._pause(pause)
            self._check(holder, before + pause, renewed + limit)
            now = self._clock()
            if self._stopping.is_set() or now - renewed >= limit:
                return
            try:
                async with asyncio.timeout(max(0.01, renewed + limit - now)):
                    alive = await lease.renew(worker_id, self._seconds)
            except (BrokerError, TimeoutError) as error:
                if failures.notable(error):
                    logger.warning("the lease was not renewed: %s", error)
                self._check(holder, renewed + limit, renewed + limit)
                pause = min(
                    self._rng.uniform(0.2, 1.0) * self._seconds / 10,
                    max(0.0, renewed + limit - self._clock()),
                )
                continue
            self._check(holder, renewed + limit, renewed + limit)
            if not alive:
                self._end(holder, "it was declared lost")
            renewed, pause, failures = now, self._seconds / RENEWALS, Failures()

    def _check(self, holder: LeaseHolder, expected: float, fenced: float) -> None:
        """Ends the process when it stood still: much later than ``expected`` and past the time to be ``fenced``."""
        now = self._clock()
        if now - expected > PAUSE_FRACTION * self._seconds and now > fenced:
            self._end(holder, f"it stood still for {now - expected:.1f} s")

    async def _let_go(self, holder: LeaseHolder) -> None:
        """Has every attempt stopped before the lease ends; ends the process when that takes too long."""
        logger.warning("the job database could not be reached for a lease's time: the lease is over")
        holder.kill()
        released = threading.Event()
        holder.lost(released.set)
        if not await asyncio.to_thread(released.wait, self._seconds):
            self._end(holder, "its attempts did not stop")

    def _end(self, holder: LeaseHolder, why: str) -> None:
        holder.kill()
        logger.critical("this worker ends itself: %s", why)
        self._exit(EXIT_CODE)
        raise SystemExit(EXIT_CODE)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
