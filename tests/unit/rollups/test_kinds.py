"""Jobs that build and refresh rollups."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from broker.domain.answer import Interval
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobProgress, JobState
from broker.domain.principal import Principal
from broker.domain.request import CallContext
from broker.domain.rollup import Storage
from broker.domain.terms import AnswerPolicy
from broker.domain.work import JobAsk, RollupBuildWork, RollupRefreshWork
from broker.rollups.kinds import BUILD, BUSY_SECONDS, REFRESH, RollupChecks, RollupKind, stored
from broker.rollups.refresh import Refresher
from tests.support.rollup_world import DATASET, FEBRUARY, JANUARY, ROLLUP, World
from tests.support.virtual_time import START, run, virtual
from tests.unit.rollups.test_build import new_world, tools_of


@dataclass
class Context:
    """What an attempt gives its kind."""

    job: Job
    deadline: Deadline = field(default_factory=lambda: Deadline.after(3600, 0.0))
    told: list[JobProgress] = field(default_factory=list)
    one_done: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self, progress: JobProgress) -> None:
        self.told.append(progress)
        if progress.message.startswith("1 of"):
            self.one_done.set()


def ask(kind: str, rollup: str = "days", interval: Interval | None = None) -> JobAsk:
    work = RollupBuildWork if kind == BUILD else RollupRefreshWork
    return JobAsk(work("visits", rollup, interval), AnswerPolicy(), "", b"", "")


def attempt(kind: str, created: datetime = START) -> Context:
    job = Job(
        "1", "acme", "ada", kind, b"", JobState.RUNNING, "", 5, 1, 1, 3, created, created
    )  # fmt: skip
    return Context(job)


def kind_of(world: World, name: str, interval: Interval | None = None) -> RollupKind:
    asked = ask(name, interval=interval)
    return RollupKind(name, {"visits": DATASET}, Refresher(tools_of(world)), lambda _: asked)


@virtual
async def test_a_build_tells_its_progress_in_partitions() -> None:
    world, context = new_world(), attempt(BUILD)
    result = await kind_of(world, BUILD).run(context)
    assert result.row_count == 60
    assert world.answer() == world.rows
    assert context.told[0].phase == "planning"
    assert context.told[-1].fraction == 1.0
    assert context.told[1].message == "0 of 3 partitions"
    second = {p.interval for p in context.told if p.message == "1 of 3 partitions"} - {None}
    assert second == {Interval(datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))}


@virtual
async def test_a_second_attempt_goes_on_where_the_first_one_ended() -> None:
    world = new_world()
    await Refresher(tools_of(world)).refresh(DATASET, ROLLUP, Deadline.after(60, 0.0))
    await asyncio.sleep(10)
    context, seen = attempt(BUILD, world.clock.now()), world.calls.count("publish")
    first = asyncio.create_task(kind_of(world, BUILD).run(context))
    await context.one_done.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.sleep(100)
    assert world.calls.count("publish") - seen == 1
    await kind_of(world, BUILD).run(context)
    assert world.calls.count("publish") - seen == 3
    assert all(version.segment.as_of >= context.job.create_time for version in world.versions.values())


@virtual
async def test_a_refresh_of_an_interval_leaves_the_rest() -> None:
    world = new_world()
    interval = Interval(datetime(2024, 1, 10, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
    await kind_of(world, REFRESH, interval).run(attempt(REFRESH))
    assert set(world.versions) == {JANUARY}
    await kind_of(world, REFRESH, Interval(None, datetime(2024, 2, 2, tzinfo=UTC))).run(attempt(REFRESH))
    assert set(world.versions) == {JANUARY, FEBRUARY}


@virtual
async def test_partitions_of_others_are_waited_for() -> None:
    world, context = new_world(), attempt(REFRESH)
    lease = await world.lease(ROLLUP, JANUARY, "other", 3600)
    assert lease is not None
    task = asyncio.create_task(kind_of(world, REFRESH).run(context))
    await asyncio.sleep(BUSY_SECONDS * 3)
    assert not task.done()
    assert context.told[-1].phase == "waiting"
    await world.release(lease)
    assert (await task).row_count == 60
    assert context.told[-1].fraction == 1.0


def call(*grants: str) -> CallContext:
    principal = Principal("ada", "acme", frozenset(grants))
    return CallContext("r", principal, Deadline(0.0), START)


@pytest.mark.parametrize(
    ("grants", "rollup", "reason"),
    [
        ((), "days", ErrorReason.PERMISSION_DENIED),
        (("admin",), "hours", ErrorReason.ROLLUP_NOT_FOUND),
        (("admin",), "days", None),
    ],
)
def test_a_submission_is_checked(grants: tuple[str, ...], rollup: str, reason: ErrorReason | None) -> None:
    async def test() -> None:
        checks = RollupChecks({"visits": DATASET})
        if reason is None:
            await checks.check(call(*grants), ask(BUILD, rollup))
            return
        with pytest.raises(BrokerError) as refused:
            await checks.check(call(*grants), ask(BUILD, rollup))
        assert refused.value.reason is reason

    run(test())


def test_kinds_are_offered_where_there_is_something_to_build() -> None:
    external = replace(DATASET, rollups={"days": replace(ROLLUP, storage=Storage.EXTERNAL)})
    assert set(stored({"visits": DATASET})) == {"visits"}
    assert stored({"visits": external}) == {}
