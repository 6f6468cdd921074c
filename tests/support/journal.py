"""Routines and resources that note what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from broker.runtime.lifecycle import Routine, Stop


class Journal:
    """Makes routines and resources that note when they begin, are told to stop, and end."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def routine(self, name: str, closing: float = 0.0) -> Routine:
        async def serve(stop: Stop) -> None:
            self.lines.append(f"{name} begins")
            try:
                await stop.wait()
                self.lines.append(f"{name} stops")
                await asyncio.sleep(closing)
                self.lines.append(f"{name} ends")
            except asyncio.CancelledError:
                self.lines.append(f"{name} is cancelled")
                raise

        return serve

    @asynccontextmanager
    async def resource(self, name: str, opening: float = 0.0) -> AsyncIterator[str]:
        await asyncio.sleep(opening)
        self.lines.append(f"{name} opens")
        try:
            yield name.upper()
        finally:
            self.lines.append(f"{name} closes")


class Broken(AbstractAsyncContextManager[None]):
    """A resource that cannot be opened."""

    async def __aenter__(self) -> None:
        raise ConnectionError("no server")

    async def __aexit__(self, *error: object) -> None:
        raise AssertionError("it was never open")
