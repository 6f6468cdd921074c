"""Watching: the newest state, always the final one, with and without notifications."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from time import monotonic

import pytest

from broker.adapters.pg_job_events import PgJobHints, payloads
from broker.adapters.pg_jobs_open import open_jobs
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import JobEvent, JobProgress, JobResult, JobState, JobVersion
from broker.jobs.hub import HubPace, JobHub, _Watcher
from broker.ports.jobs import JobSignal, JobStore
from tests.support.jobs import Jobs, submission

NEVER = 3600.0
HINTS_ONLY = HubPace(gather=0.001, listening=NEVER, deaf=NEVER)
POLLS_ONLY = HubPace(gather=0.001, listening=0.02, deaf=0.02)


class NoSignals:
    """A channel that brings nothing."""

    listening = False

    def subscribe(self, listener: object) -> object:
        return lambda: None


@asynccontextmanager
async def hub_of(jobs: Jobs, pace: HubPace, signals: object = None) -> AsyncIterator[JobHub]:
    hub = JobHub(jobs.ports.store, signals or jobs.ports.signals, pace)  # type: ignore[arg-type]  # a stand-in
    async with hub.running():
        yield hub
        assert hub.watching == 0
        assert hub._watchers == {}


async def following(events: AsyncGenerator[JobEvent, None]) -> JobEvent:
    async with asyncio.timeout(60):
        return await anext(events)


async def test_the_current_state_comes_first_and_the_final_one_last(jobs: Jobs) -> None:
    await jobs.listening()
    job = await jobs.running()
    async with hub_of(jobs, HINTS_ONLY) as hub, hub.watch("acme", job.id, 0, NEVER) as events:
        assert (await following(events)).job == job
        await jobs.ports.queue.report([(job, JobProgress("reading", row_count=1))])
        event = await following(events)
        assert (event.job.progress.row_count, event.keep_alive) == (1, False)
        assert event.job == await jobs.get(job.id), (
            "what did not change was not read, and is there all the same"
        )
        await jobs.ports.queue.succeed(job, JobResult(row_count=7), JobProgress("done"), 60.0)
        last = await following(events)
        assert last.job.state is JobState.SUCCEEDED
        assert last.job == await jobs.get(job.id)
        with pytest.raises(StopAsyncIteration):
            await following(events)


async def test_a_slow_watcher_sees_the_newest_state_and_the_final_one(jobs: Jobs) -> None:
    await jobs.listening()
    job = await jobs.running()
    async with (
        hub_of(jobs, HINTS_ONLY) as hub,
        hub.watch("acme", job.id, 0, NEVER) as slow,
        hub.watch("acme", job.id, 0, NEVER) as quick,
    ):
        await following(slow)
        await following(quick)
        for rows in range(1, 30):
            await jobs.ports.queue.report([(job, JobProgress(row_count=rows))])
        while (await following(quick)).job.progress.row_count != 29:
            pass
        assert (await following(slow)).job.progress.row_count == 29, "not the 29 states in between"
        await jobs.ports.queue.succeed(job, JobResult(), JobProgress(), 60.0)
        assert [event.job.state async for event in slow] == [JobState.SUCCEEDED]


async def test_a_final_state_that_waits_to_be_read_is_not_replaced(jobs: Jobs) -> None:
    job = await jobs.running()
    watcher = _Watcher(0)
    watcher.offer(job)
    final = replace(job, state=JobState.FAILED, revision=job.revision + 1)
    watcher.offer(final)
    watcher.offer(replace(job, state=JobState.QUEUED, revision=job.revision + 2))  # requeued by an operator
    assert await watcher.take(NEVER) == final


async def test_resuming_after_a_revision_skips_what_was_seen(jobs: Jobs) -> None:
    job = await jobs.running()
    async with hub_of(jobs, POLLS_ONLY) as hub, hub.watch("acme", job.id, job.revision, NEVER) as events:
        await jobs.ports.queue.report([(job, JobProgress(row_count=5))])
        assert (await following(events)).job.revision == job.revision + 1


async def test_resuming_after_the_end_tells_the_end_again(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.queue.succeed(job, JobResult(), JobProgress(), 60.0)
    ended = await jobs.get(job.id)
    async with hub_of(jobs, HINTS_ONLY) as hub, hub.watch("acme", job.id, ended.revision, NEVER) as events:
        assert [event.job async for event in events] == [ended]


async def test_silence_is_filled_with_keep_alives(jobs: Jobs) -> None:
    job = await jobs.running()
    async with hub_of(jobs, HINTS_ONLY) as hub, hub.watch("acme", job.id, 0, 0.01) as events:
        await following(events)
        assert await following(events) == JobEvent(job, keep_alive=True)


async def test_without_notifications_polling_brings_every_watcher_to_the_end(jobs: Jobs) -> None:
    job = await jobs.running()
    async with hub_of(jobs, POLLS_ONLY, NoSignals()) as hub, hub.watch("acme", job.id, 0, NEVER) as events:
        await following(events)
        await jobs.ports.queue.succeed(job, JobResult(), JobProgress(), 60.0)
        states = [event.job.state async for event in events]
    assert states[-1] is JobState.SUCCEEDED


class Away:
    """A job database that does not answer the first three looks, and says each time for how long it has not."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.looks = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def versions(self, ids: Sequence[str]) -> Sequence[JobVersion]:
        self.looks += 1
        if self.looks <= 3:
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, f"Away for {self.looks} s.")
        return await self._store.versions(ids)


async def test_a_database_that_is_away_is_told_of_once(jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    job = await jobs.running()
    away = Away(jobs.ports.store)
    hub = JobHub(away, NoSignals(), POLLS_ONLY)  # type: ignore[arg-type]  # stand-ins
    with caplog.at_level(logging.INFO, "broker.jobs.hub"):
        async with hub.running(), hub.watch("acme", job.id, job.revision, NEVER) as events:
            await jobs.ports.queue.succeed(job, JobResult(), JobProgress(), 60.0)
            assert (await following(events)).job.state is JobState.SUCCEEDED
    assert away.looks > 3
    told = [record.message for record in caplog.records if record.name == "broker.jobs.hub"]
    assert told == ["watchers wait for the job database: Away for 1 s."]


async def test_a_job_that_is_deleted_ends_its_watches(jobs: Jobs) -> None:
    job = await jobs.ports.store.submit(submission())
    async with hub_of(jobs, POLLS_ONLY) as hub, hub.watch("acme", job.id, 0, NEVER) as events:
        await following(events)
        await jobs.admin.execute("DELETE FROM broker.job")
        with pytest.raises(BrokerError) as caught:
            await following(events)
    assert caught.value.reason is ErrorReason.JOB_NOT_FOUND


async def test_a_job_that_does_not_exist_cannot_be_watched(jobs: Jobs) -> None:
    async with hub_of(jobs, HINTS_ONLY) as hub:
        with pytest.raises(BrokerError) as caught:
            async with hub.watch("acme", "none", 0, NEVER):
                pytest.fail("there is nothing to watch")
        job = await jobs.ports.store.submit(submission())
        with pytest.raises(BrokerError):
            async with hub.watch("globex", job.id, 0, NEVER):
                pytest.fail("it is another tenant's")
    assert caught.value.reason is ErrorReason.JOB_NOT_FOUND


async def test_many_watchers_of_many_jobs_all_reach_the_end(jobs: Jobs) -> None:
    made = [await jobs.ports.store.submit(submission()) for _ in range(20)]
    async with hub_of(jobs, HubPace(0.001, 1.0, 0.05)) as hub:

        async def watch(job_id: str) -> JobState:
            async with hub.watch("acme", job_id, 0, NEVER) as events:
                return [event.job.state async for event in events][-1]

        watching = [asyncio.create_task(watch(job.id)) for job in made for _ in range(5)]
        worker = await jobs.worker()
        for job in await jobs.claim(worker, 20):
            await jobs.ports.queue.succeed(job, JobResult(), JobProgress(), 60.0)
        async with asyncio.timeout(60):
            assert set(await asyncio.gather(*watching)) == {JobState.SUCCEEDED}


async def test_a_broken_channel_is_mended_and_tells_everybody_to_look(jobs: Jobs) -> None:
    await jobs.listening()
    resynced = asyncio.Event()

    def hear(signal: JobSignal) -> None:
        if signal.resync:
            resynced.set()

    jobs.ports.signals.subscribe(hear)
    killed = await jobs.admin.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'querybroker job signals'"
    )
    assert killed == 1
    async with asyncio.timeout(60):
        await resynced.wait()
    assert jobs.ports.signals.listening


async def test_hints_go_from_process_to_process(jobs: Jobs) -> None:
    await jobs.listening()
    heard: asyncio.Queue[JobSignal] = asyncio.Queue()
    jobs.ports.signals.subscribe(heard.put_nowait)
    async with open_jobs(jobs.dsn, connections=1, clock=monotonic, rng=Random(9)) as other:
        job = await other.store.submit(submission())
        async with asyncio.timeout(60):
            assert (await heard.get()).queued is not None
        await other.store.cancel("acme", job.id, "ada")
        async with asyncio.timeout(60):
            assert (await heard.get()).changed == {job.id}


def test_ids_are_packed_into_payloads_that_postgresql_takes() -> None:
    ids = [f"{i:032x}" for i in range(1000)]
    packed = payloads(ids)
    assert all(len(text) < 8000 for text in packed)
    assert [i for text in packed for i in text.split(",")] == ids
    assert len(packed) == 5
    assert payloads([]) == []


async def test_many_changes_are_one_notification(jobs: Jobs) -> None:
    await jobs.listening()
    heard: asyncio.Queue[JobSignal] = asyncio.Queue()
    jobs.ports.signals.subscribe(heard.put_nowait)
    hints = PgJobHints(jobs.ports.store._database)
    for i in range(100):
        hints.changed([str(i)])
    await hints.send()
    async with asyncio.timeout(60):
        assert len((await heard.get()).changed) == 100
    assert heard.empty()
