"""A hundred thousand calls through the asynchronous shell: no seat, timer, future or task is left."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random

from broker.domain.errors import BrokerError
from broker.policy.admission.values import AdmissionRequest, Quantiles
from broker.runtime.admission import Admission
from broker.telemetry.instruments import Telemetry
from tests.support.admission_model import nothing_left
from tests.support.scheduling import DASHBOARD, EXPLORATION, JOB, Adjustable, limits, shared
from tests.support.virtual_time import VirtualClock, run

CALLS, CYCLES, CALLERS = 100_000, 10, 400
POOLS = (DASHBOARD, EXPLORATION, JOB)


class BrokenError(Exception):
    """What the work of a call raises now and then."""


async def call(admission: Admission, id: str, random: Random) -> str:
    """One call, and how it went."""
    now = asyncio.get_running_loop().time()
    request = AdmissionRequest(
        id, f"t{random.randrange(100)}", random.choice(POOLS), now + random.choice((0.05, 1.0, 10.0)),
        predicted=Quantiles(0.02, 0.05, 0.1), load_group=random.choice(("", "", f"g{int(id) // 5}")),
    )  # fmt: skip
    try:
        async with admission.permit(request):
            await asyncio.sleep(random.expovariate(20.0))
            if random.random() < 0.1:
                raise BrokenError
    except BrokerError as error:
        return error.reason.value
    except BrokenError:
        return "broken"
    return "served"


async def caller(
    admission: Admission, calls: list[str], few_left: asyncio.Event, random: Random, seen: Counter[str]
) -> None:
    """Calls one after another; gives some up at a moment that may be any."""
    while calls:
        if len(calls) <= CALLS // CYCLES // 10:
            few_left.set()
        task = asyncio.create_task(call(admission, calls.pop(), random))
        if random.random() < 0.2:
            await asyncio.sleep(random.choice((0.0, 0.0, 0.01, 0.2)))
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        seen["cancelled" if task.cancelled() else task.result()] += 1


async def live(number: int, random: Random, seen: Counter[str]) -> None:
    """The life of one broker: so many calls, and for every other one a drain in the middle of them."""
    core = shared(20, dict.fromkeys(POOLS, limits(reserved=1)), policy=Adjustable(20))
    admission = Admission(core, VirtualClock(), Telemetry.off())
    calls = [str(n) for n in range(CALLS // CYCLES)]
    few_left = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller(admission, calls, few_left, random, seen))
        if number % 2:
            await few_left.wait()
            admission.drain()
    await admission.idle()
    nothing_left(core)
    assert not admission._held  # a leak does not show outside
    assert not admission._waiting
    assert admission._timer is None
    admission.close()


def test_nothing_is_left_of_a_hundred_thousand_calls() -> None:
    async def main() -> Counter[str]:
        random, seen = Random(2), Counter[str]()
        for number in range(CYCLES):
            await live(number, random, seen)
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # timers are known nowhere else
        assert all(timer.cancelled() for timer in timers)
        return seen

    seen = run(main())  # which also finds tasks that are left
    assert seen.total() == CALLS
    assert min(seen[way] for way in ("served", "broken", "cancelled", "OVERLOADED", "DRAINING")) > 500
