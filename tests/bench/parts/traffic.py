"""Open-loop traffic: requests leave at times that were drawn before, whatever has become of earlier ones.

Latency counts from the time at which a request should have left, so that a generator that falls behind hides nothing.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from tests.bench import harness


class Fate(StrEnum):
    """What became of a request."""

    LIVE = "live"
    """Answered inside its deadline."""
    LATE = "late"
    """Told nothing until its deadline."""
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that leaves ``at`` so many seconds after the start. ``number`` varies its question."""

    at: float
    number: int
    kind: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Result:
    """A request's fate ``seconds`` after it should have left. ``stage`` is when a refusal was decided."""

    arrival: Arrival
    fate: Fate
    seconds: float
    stage: str = ""
    attempts: int = 1

    @property
    def told(self) -> float:
        """When the fate was known, in seconds after the start."""
        return self.arrival.at + self.seconds


Send = Callable[[Arrival, float], Awaitable[tuple[Fate, str]]]
"""Sends a request that has so many seconds left; returns its fate, and the stage of a refusal."""


@dataclass(frozen=True, slots=True)
class Source:
    """Part of the traffic: requests per second of a kind, spread evenly over tenants."""

    rate: float
    kind: str
    tenants: Sequence[str]


def poisson(sources: Sequence[Source], start: float, end: float, rng: random.Random) -> list[Arrival]:
    """Arrivals between two instants, in order: a Poisson process of which it is known how many come.

    They are as many as are expected, at random times, so that a short load is not a light or a heavy one by chance.
    """
    arrivals: list[Arrival] = []
    for source in sources:
        for _ in range(round(source.rate * (end - start))):
            at, number = rng.uniform(start, end), rng.randrange(10_000)
            arrivals.append(Arrival(at, number, source.kind, rng.choice(source.tenants)))
    return sorted(arrivals, key=lambda arrival: arrival.at)


async def play(
    arrivals: Sequence[Arrival], send: Send, deadline: float, attempts: int = 1, end: float = math.inf
) -> list[Result]:
    """Sends everything on time, waits for all of it. A refused request is tried again after 0.1 and 0.2 seconds.

    What is under way at the second ``end`` is given up, and has no result.
    """
    loop = asyncio.get_running_loop()
    origin = loop.time()
    results: list[Result] = []

    async def one(arrival: Arrival) -> None:
        last = origin + arrival.at + deadline
        fate, stage, tries = Fate.LATE, "", 0
        while loop.time() < last:
            tries += 1
            fate, stage = await send(arrival, last - loop.time())
            if fate is not Fate.REFUSED or tries == attempts:
                break
            await asyncio.sleep(0.1 * 2 ** (tries - 1) * (0.8 + 0.4 * (arrival.number % 97) / 97))
        seconds = loop.time() - origin - arrival.at
        if fate is Fate.LIVE and seconds > deadline:
            fate = Fate.LATE
        results.append(Result(arrival, fate, seconds, stage, tries))

    with suppress(TimeoutError):
        async with (
            asyncio.timeout_at(None if end == math.inf else origin + end),
            asyncio.TaskGroup() as group,
        ):
            for arrival in arrivals:
                delay = origin + arrival.at - loop.time()
                if delay > 0:
                    await asyncio.sleep(delay)
                group.create_task(one(arrival))
    return results


async def closed(callers: int, seconds: float, call: Callable[[int], Awaitable[object]]) -> float:
    """Calls per second that so many callers get through who each wait for their answer."""
    count, end = 0, time.perf_counter() + seconds

    async def caller(me: int) -> None:
        nonlocal count
        number = me * 1_000
        while time.perf_counter() < end:
            await call(number)
            number += 1
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*(caller(me) for me in range(callers)))
    return count / (time.perf_counter() - started)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile; not-a-number without values."""
    return harness.percentile(values, 99) if values else float("nan")


def jain(amounts: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all have the same, 1/n when one has everything."""
    total, squares = sum(amounts), sum(a * a for a in amounts)
    return total * total / (len(amounts) * squares) if squares else float("nan")
