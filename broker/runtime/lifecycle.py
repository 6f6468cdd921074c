"""Starting and stopping: a program is a graph of routines, and the graph alone says what stops when.

A routine is told to stop once everything that needs it has ended; routines that do not need each other stop at the same
time. There are no numbers to order them by and nothing sleeps. (The idea is that of bb-storage's ``program.Run``, where
siblings stop before their dependencies.) Every task that a program starts is waited for before it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class Stop:
    """How a routine learns that it is to end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def requested(self) -> bool:
        """Whether the routine is to end."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Waits until the routine is to end."""
        await self._event.wait()

    def request(self) -> None:
        """Tells the routine to end."""
        self._event.set()


Routine = Callable[[Stop], Awaitable[None]]
"""Runs until it has nothing more to do, or is told to stop and ends in an orderly way. A cancel ends it at once."""


class Node:
    """A routine in the graph."""

    def __init__(self, name: str, needs: Sequence[Node], *, resource: bool) -> None:
        self.name = name
        self.needs = tuple(needs)
        self.resource = resource
        self.stop = Stop()
        self.cancelled = False


class Resource(Node, Generic[T]):
    """An open resource; ``value`` is what its context gave."""

    def __init__(self, name: str, needs: Sequence[Node]) -> None:
        super().__init__(name, needs, resource=True)
        self.opened: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    @property
    def value(self) -> T:
        """What entering the context gave."""
        return self.opened.result()


class Program:
    """A graph of routines that ends when its last routine has ended, one has failed, or it is told to stop."""

    def __init__(self) -> None:
        self._live: dict[Node, asyncio.Task[None]] = {}
        self._setup: asyncio.Task[None] | None = None
        self._stopping = self._aborting = False
        self._failure: BaseException | None = None
        self._ended = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def stopping(self) -> bool:
        """Whether the program is coming to its end."""
        return self._stopping

    async def run(self, setup: Callable[[Program], Awaitable[None]]) -> None:
        """Builds the graph with ``setup`` and waits until everything in it has ended.

        Raises:
            BaseException: The first failure of the setup or of a routine, after the rest has been stopped in order.
        """
        self._setup = asyncio.ensure_future(_coroutine(setup(self)))
        self._setup.add_done_callback(self._set_up)
        try:
            await self._ended.wait()
        except asyncio.CancelledError:
            self.abort()
            await self._ended.wait()
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if self._failure is not None:
            raise self._failure

    def start(self, name: str, routine: Routine, needs: Sequence[Node] = ()) -> Node:
        """Starts a routine, which is told to stop before anything that it needs."""
        node = Node(name, needs, resource=False)
        self._launch(node, routine(node.stop))
        return node

    async def enter(
        self, name: str, manager: AbstractAsyncContextManager[T], needs: Sequence[Node] = ()
    ) -> Resource[T]:
        """Opens a resource, which is closed when everything that needs it has ended.

        When the program is aborted, the context is left with a CancelledError.

        Raises:
            BaseException: What entering the context raises.
        """
        node: Resource[T] = Resource(name, needs)
        task = self._launch(node, _hold(node, manager))
        try:
            await node.opened
        except asyncio.CancelledError:
            node.cancelled = True
            task.cancel()
            raise
        return node

    def stop(self, grace: float | None = None) -> None:
        """Begins the orderly end; what has not ended after ``grace`` seconds is cancelled."""
        if not self._stopping:
            self._stopping = True
            if self._setup is not None:
                self._setup.cancel()
            if grace is not None:
                self._timer = asyncio.get_running_loop().call_later(grace, self.abort)
        self._advance()

    def abort(self) -> None:
        """Ends by cancelling, in the same order."""
        self._aborting = True
        self.stop()

    def _launch(self, node: Node, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(_coroutine(work), name=node.name)
        self._live[node] = task
        task.add_done_callback(lambda _: self._end(node))
        return task

    def _set_up(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._fail("setup", task.exception())
        self._advance()

    def _end(self, node: Node) -> None:
        task = self._live.pop(node)
        error = None if task.cancelled() else task.exception()
        if isinstance(node, Resource) and not node.opened.done():
            # Whoever opens it is told; a setup that does not care goes on.
            node.opened.cancel() if error is None else node.opened.set_exception(error)
        elif error is not None:
            self._fail(node.name, error)
        elif task.cancelled() and not node.cancelled and not self._stopping:
            self._fail(node.name, asyncio.CancelledError(f"{node.name} was cancelled"))
        self._advance()

    def _fail(self, name: str, error: BaseException | None) -> None:
        # The first failure is raised by run(), and so told by whoever started the program.
        _LOG.error("%s failed", name, exc_info=error if self._failure is not None else None)
        self._failure = self._failure or error
        self.stop()

    def _advance(self) -> None:
        """Tells those to stop whose turn has come; notices the end."""
        if self._setup is None or not self._setup.done():
            return
        if all(node.resource for node in self._live):
            self._stopping = True
        if self._stopping:
            needed = {need for node in self._live for need in node.needs}
            for node in [node for node in self._live if node not in needed]:
                self._tell(node)
        if not self._live:
            self._ended.set()

    def _tell(self, node: Node) -> None:
        node.stop.request()
        if self._aborting and not node.cancelled:
            node.cancelled = True
            self._live[node].cancel()


async def _coroutine(work: Awaitable[None]) -> None:
    await work


async def _hold(node: Resource[T], manager: AbstractAsyncContextManager[T]) -> None:
    async with manager as value:
        if not node.opened.done():
            node.opened.set_result(value)
            await node.stop.wait()
