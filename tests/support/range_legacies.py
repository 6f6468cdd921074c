"""What attempts leave of their exports, and what the next ones may take over of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from broker.domain.job import JobResult, ResultPart, part_prefix
from broker.domain.ranges import NOTHING, KeyRange, Legacy, RangeOffer
from tests.support.jobs import Jobs
from tests.support.range_attempts import CUT, NOW, claimed_own, opened

FILE = ResultPart(0, "old/key", "part.arrow", "", 7, 70, b"1")
OTHERS = JobResult((FILE,), row_count=7, byte_count=70)


async def inherits(
    jobs: Jobs,
    *,
    expected: bool = False,
    done: bool = True,
    left: str = "same",
    given: str = "same",
    plan: str = "plan",
    low: int | None = None,
    legacy: int = 1,
    files: bool = True,
) -> None:
    """An attempt dies, and the next one offers what it left of one range, or something that is not that."""
    job = await jobs.running()
    before = RangeOffer(KeyRange(None, 5), (left,))
    assert await jobs.ports.ranges.open(job, "0-1", "plan", (before,), read_time=NOW)
    own = await claimed_own(jobs, job)
    assert own is not None
    if done:
        assert await jobs.ports.ranges.finish_own(job, own, OTHERS)
    assert await jobs.ports.queue.release(job)
    (again,) = await jobs.claim(await jobs.worker())
    offer = RangeOffer(KeyRange(low, 5), (given,), (replace(FILE, key="new/key"),) if files else None)
    later = NOW + timedelta(hours=1)
    assert await jobs.ports.ranges.open(again, "0-2", plan, (offer,), read_time=later, legacy=legacy)
    (state,) = await jobs.ports.ranges.state(again)
    assert (state.inherited, state.parts) == ((NOW, offer.parts) if expected else (None, None))
    assert state.row_count == (7 if expected else 0)
    assert (await claimed_own(jobs, again) is None) is expected


async def kept_for_the_next(jobs: Jobs, *, proofs: tuple[str, ...] = ("same",), over: bool = False) -> None:
    """The sweep leaves the files of a dead attempt alone that the next one may take over, and no others."""
    job = await jobs.running()
    assert await jobs.ports.ranges.open(job, "0-1", "plan", (RangeOffer(KeyRange(), proofs),), read_time=NOW)
    own = await claimed_own(jobs, job)
    assert own is not None
    if proofs != ("unfinished",):
        assert await jobs.ports.ranges.finish_own(job, own, OTHERS)
    if over:
        await jobs.ports.store.cancel("acme", job.id, "ada")
        assert await jobs.ports.queue.cancelled(job)
    else:
        assert await jobs.ports.queue.release(job)
    kept = proofs == ("same",) and not over
    prefix = part_prefix(job.tenant, job.id, job.fence)
    assert list(await jobs.ports.keeper.unwanted([prefix])) == ([] if kept else [prefix])


async def left_by_others(jobs: Jobs) -> None:
    """What an attempt has opened itself is no legacy, and neither are the ranges of another plan."""
    job = await opened(jobs)
    assert await jobs.ports.ranges.left(job, "plan") == NOTHING
    assert await jobs.ports.queue.release(job)
    (again,) = await jobs.claim(await jobs.worker())
    assert await jobs.ports.ranges.left(again, "other") == NOTHING
    assert await jobs.ports.ranges.left(again, "plan") == Legacy(1, CUT)
