"""What it costs a machine merely to send, receive and decline traffic, while it also does the work of a database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tests.bench.parts import traffic
from tests.bench.parts.byhand import DECLINE
from tests.bench.parts.senders import by_hand
from tests.bench.parts.traffic import Arrival

MEANINGS = (
    (
        "goodput_10x",
        "answers in time over asyncpg's best just before and after, the database having processors to itself",
    ),
    ("..._one_machine", "the same where the database shares all processors with broker and traffic"),
    (
        "goodput_10x_beside_traffic",
        "answers there over asyncpg's best while a bare handler declines the same traffic",
    ),
    ("dashboard_p99_vs_bare", "beside explorers, of those that are not refused, over asyncpg's p99"),
    ("dashboards_refused", "share of the dashboards beside explorers that are refused"),
    ("declined_p99_ms", "time until that handler's refusal: what any refusal takes there"),
)


async def beside(
    arrivals: Sequence[Arrival],
    dsn: str,
    callers: int,
    direct: Callable[[int], Awaitable[object]],
    times: tuple[float, float, float],
) -> tuple[float, float]:
    """Calls per second of so many callers of ``direct`` beside the traffic, and its p99 in seconds.

    A handler of grpc.aio in a process of its own declines every request unread and does nothing else. ``times`` are the
    deadline of the traffic, the beginning that is not counted, and how long is counted, in seconds.
    """
    deadline, warm_up, seconds = times
    async with by_hand(dsn, DECLINE) as declining:
        playing = asyncio.create_task(traffic.play(arrivals, declining, deadline))
        await asyncio.sleep(warm_up)
        rate = await traffic.closed(callers, seconds, direct)
        results = await playing
    return rate, traffic.p99([r.seconds for r in results if r.arrival.at >= warm_up])
