"""Dashboards beside explorers who would take all: through the broker, and by asyncpg beside as many explorers.

Both sides get the same arrivals in short rounds that alternate, so that a slow moment of the machine hits both, and
the percentiles are of all rounds together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from querybroker.v1 import admin_service_pb2, admin_service_pb2_grpc
from tests.bench.parts import traffic
from tests.bench.parts.place import Place
from tests.bench.parts.senders import DEADLINE, TENANTS
from tests.bench.parts.traffic import Arrival, Fate, Result, Send, Source

Direct = Callable[[int], Awaitable[object]]
"""The question with a number straight to the database."""
DASHBOARDS, FLOOD = 0.25, 2.0
"""What is asked, as shares of the capacity."""
LEAD = 0.3
"""Seconds of each round that are not counted: until explorers have what they get."""


@dataclass
class Beside:
    """What was seen, over all rounds: seats used by explorers and by all, and the dashboards of both sides."""

    explorers: list[int] = field(default_factory=list)
    seats: list[int] = field(default_factory=list)
    through: list[Result] = field(default_factory=list)
    bare: list[Result] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """The metrics. Those that are refused are told of apart, as they have no time that says anything."""
        answered = [r.seconds for r in self.through if r.fate is not Fate.REFUSED]
        p99, bare = traffic.p99(answered), traffic.p99([r.seconds for r in self.bare])
        return {
            "exploration_seat_share": sum(self.explorers) / max(1, sum(self.seats)),
            "dashboard_p99_vs_bare": p99 / bare,
            "dashboard_p99_ms": 1000 * p99,
            "dashboards_refused": 1.0 - len(answered) / max(1, len(self.through)),
        }


async def beside_explorers(
    place: Place, send: Send, direct: Direct, capacity: float, rounds: int, seconds: float
) -> Beside:
    """So many rounds, of so many seconds on each side."""
    found = Beside()
    for turn in range(rounds):
        mix = [
            Source(DASHBOARDS * capacity, "dashboard", TENANTS),
            Source(FLOOD * capacity, "explore", TENANTS),
        ]
        arrivals = traffic.poisson(mix, 0.0, LEAD + seconds, random.Random(11 + turn))
        dashboards = [a for a in arrivals if a.kind == "dashboard"]
        before, stop = len(found.explorers), asyncio.Event()
        sampling = asyncio.create_task(_sample(place, found, stop))
        through = await traffic.play(arrivals, send, DEADLINE)
        stop.set()
        await sampling
        here = found.explorers[before:]
        bare = await _bare(dashboards, direct, sum(here) / max(1, len(here)))
        found.through += [r for r in through if r.arrival.kind == "dashboard" and r.arrival.at >= LEAD]
        found.bare += [r for r in bare if r.arrival.at >= LEAD]
    return found


async def _sample(place: Place, found: Beside, stop: asyncio.Event) -> None:
    """Notes several times a second, until told to stop, whose the seats are while explorers wait."""
    metadata = (("authorization", "Bearer operator"),)
    async with place.channel() as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        while not stop.is_set():
            state = await stub.GetState(admin_service_pb2.GetStateRequest(), metadata=metadata)
            pools = {pool.name: pool for pool in state.state.pools}
            if pools["exploration"].queue_length:
                found.explorers.append(pools["exploration"].seats_used)
                found.seats.append(pools["exploration"].seats_used + pools["dashboard"].seats_used)
            await asyncio.sleep(0.1)


async def _bare(arrivals: Sequence[Arrival], direct: Direct, explorers: float) -> list[Result]:
    """The same dashboards by asyncpg, beside as many explorers (on average) as the broker let run."""
    whole, part = int(explorers), explorers - int(explorers)
    done = asyncio.Event()

    async def explorer(duty: float, me: int) -> None:
        loop = asyncio.get_running_loop()
        number = 1_000 * me
        while not done.is_set():
            started = loop.time()
            await direct(number)
            number += 1
            if duty < 1.0:
                await asyncio.sleep((loop.time() - started) * (1.0 / duty - 1.0))

    async def send(arrival: Arrival, left: float) -> tuple[Fate, str]:
        try:
            async with asyncio.timeout(left):
                await direct(arrival.number)
        except TimeoutError:
            return Fate.LATE, ""
        return Fate.LIVE, ""

    duties = [1.0] * whole + ([part] if part > 0.05 else [])
    crowd = [asyncio.create_task(explorer(duty, me)) for me, duty in enumerate(duties)]
    try:
        return await traffic.play(arrivals, send, DEADLINE)
    finally:
        done.set()
        await asyncio.gather(*crowd)
