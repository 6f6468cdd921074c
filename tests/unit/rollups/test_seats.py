"""Builds take one seat of the pool of jobs at a time, after everybody else who waits for one."""

from __future__ import annotations

import asyncio

from broker.domain.pool import PoolLimits, PoolName
from broker.jobs.seats import patient
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import AdmissionRequest
from broker.rollups.refresh import Refresher
from broker.rollups.seats import rollup_seats
from tests.support.rollup_world import DATASET, ROLLUP
from tests.support.seats import shell
from tests.support.virtual_time import virtual
from tests.unit.rollups.test_build import new_world, tools_of
from tests.unit.rollups.test_refresh import SOON


@virtual
async def test_a_build_waits_for_a_seat_behind_the_jobs_and_gives_it_back() -> None:
    limits = patient(PoolLimits(1, 1, 1, 1), 3)
    admission = shell(Scheduler({PoolName.JOB: PoolLimits(1, limits.queue, 1, 1, wait_fraction=1.0)}, seed=1))
    world, order = new_world(), list[str]()

    async def job(name: str) -> None:
        request = AdmissionRequest(name, "acme", PoolName.JOB, 1e9)
        async with admission.permit(request):
            order.append(name)
            await asyncio.sleep(10)

    async def build() -> None:
        await Refresher(tools_of(world), rollup_seats(admission)).refresh(DATASET, ROLLUP, SOON)
        order.append("built")

    first = asyncio.create_task(job("first"))
    await asyncio.sleep(1)
    building = asyncio.create_task(build())
    await asyncio.sleep(1)
    assert world.calls == ["status"], "without a seat nothing is read, and no lease is taken"
    second = asyncio.create_task(job("second"))
    await asyncio.gather(first, second, building)
    assert order == ["first", "second", "built"]
    assert world.answer() == world.rows
    assert len(world.versions) == 3
    await job("after")
    admission.close()
