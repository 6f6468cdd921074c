"""The responses of one stream, written so that the stream can still be given a status at any moment.

gRPC counts initial metadata as sent only once the first write has been awaited to its end. A write that is cancelled
before (a drain, a deadline, memory that runs short) has sent it all the same; the status would then bring it a second
time, is refused by the core, and the call is left open until the caller's own deadline. So the metadata goes ahead of
the first response, by itself, and is seen through; it is not subject to flow control and waits for no reader.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from broker.domain.errors import BrokerError, ErrorReason


class Responses:
    """Writes to ``context``; a write that takes longer than ``stall`` seconds (0: any time) ends the stream.

    A client tells of what it has read in steps, of some 4 MB where the network is fast: one that reads less than that
    in ``stall`` seconds looks as if it read nothing.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], stall: float) -> None:
        self._context = context
        self._stall = stall
        self._begun = False

    async def write(self, response: bytes) -> None:
        """Returns when the response is on its way; flow control makes it wait for the reader, but not for ever.

        Raises ``BrokerError`` (DEADLINE_EXCEEDED) when the reader makes no room.
        """
        if not self._begun:
            self._begun = True
            await self._begin()
        limit = asyncio.timeout(self._stall or None)
        try:
            async with limit:
                await self._context.write(response)
        except TimeoutError:
            if not limit.expired():
                raise
            raise _stalled(self._stall) from None

    async def _begin(self) -> None:
        sending = asyncio.ensure_future(self._context.send_initial_metadata(()))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait([sending])
            raise


def _stalled(seconds: float) -> BrokerError:
    return BrokerError(
        ErrorReason.DEADLINE_EXCEEDED,
        f"The reader made no room in the stream for {seconds:g} s, so it was ended and its seat given back. Read "
        "faster, ask for fewer rows, or submit an export job.",
        metadata={"limiting_factor": "slow_reader", "stall_seconds": f"{seconds:g}", "stage": "running"},
    )
