"""Answers questions from the tables of other held answers, where :mod:`broker.policy.containment` proves that it can.

Asked after the cache itself has nothing, before anything is classified: the proofs take a fraction of a millisecond, no
seat is taken, and a worker process reads the held table instead of the database. What comes out is kept under its own
key, as old as what it was made from. The same serves below the live rung, from answers that are too old for its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from broker.aggregation.executor import WorkerTaskError
from broker.domain.answer import (
    Answer,
    AnswerPart,
    AnswerStatus,
    Exactness,
    Interval,
    LadderStep,
    PartSource,
    Verdict,
)
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fingerprint import fingerprint
from broker.domain.held import Held
from broker.domain.pool import PoolName
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy, CacheMode
from broker.pipeline.bounds import error_bounds, exactness
from broker.pipeline.cached import CACHED, INCOMPLETE, Asked, Cached, result_of, suits, wanted
from broker.pipeline.execute import pool_of
from broker.pipeline.stage import Group, Question
from broker.pipeline.stale_cache import Older
from broker.pipeline.status import snapped_range
from broker.policy.containment import Asking, Way, may_hold, way
from broker.policy.freshness import Freshness, Standing
from broker.policy.ranges import GridBuilder
from broker.policy.reach import reach_of
from broker.ports.aggregator import Aggregator

MOST_LOOKED, MOST_PROVED = 256, 8
"""Held answers of a dataset that are looked at for one question, and that a proof is tried for."""
TIME_SHARE, MOST_TIME = 0.3, 2.0
"""Part of the time that is left, and seconds, that an answer in place of a live one may take."""
NOT_AGAIN, MOST_MISSED = 0.2, 1024
"""Seconds for which a question that nothing contained is not looked for again, and how many such are remembered."""
TIER = "contained"
"""Where such answers are counted among lookups."""
NAMED = "contained:"
"""Before the key of the held answer in the name of a part."""
Allowed = Callable[[Freshness], bool]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A held answer that contains another one: how that is read, and what will be held of it but for the table."""

    way: Way
    held: Held
    fresh: Freshness


class Contained:
    """Held answers as sources of other ones; ``grids`` builds the buckets that are held.

    What is being made is waited for by whoever asks for it too. What was not found is not looked for again at once.
    """

    def __init__(self, cached: Cached, aggregator: Aggregator, grids: GridBuilder) -> None:
        self.cached = cached
        self._aggregator, self._grids = aggregator, grids
        self._making: dict[str, asyncio.Event] = {}
        self._missed: OrderedDict[tuple[str, AnswerPolicy], float] = OrderedDict()

    async def look(
        self, asked: Sequence[Asked], found: Sequence[Answer | None], context: CallContext, pool: PoolName
    ) -> list[Answer | None]:
        """What was found, and in place of what was not what may stand for a live answer; in workers of the pool."""
        missing = [i for i, answer in enumerate(found) if answer is None and asked[i].reads]
        if not missing:
            return list(found)
        made = await asyncio.gather(*(self.answer(asked[i], context, pool) for i in missing))
        both = list(found)
        for i, answer in zip(missing, made, strict=True):
            both[i] = answer
            self.cached.telemetry.cache_lookup(TIER, result_of(answer))
        return both

    async def answer(self, asked: Asked, context: CallContext, pool: PoolName) -> Answer | None:
        """An answer that may stand for a live one; None where there is none, or making it fails."""
        now = self.cached.clock.monotonic()
        deadline = context.deadline.capped(min(MOST_TIME, TIME_SHARE * context.deadline.remaining(now)), now)
        if (made := self._making.get(asked.key)) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline.remaining(now)):
                    await made.wait()
            return self.cached.near(asked, context)
        if now < self._missed.get((asked.key, asked.policy), now):
            return None
        only = asked.policy.cache is CacheMode.ONLY

        def allowed(fresh: Freshness) -> bool:
            return fresh.usable or (only and fresh.standing is Standing.STALE)

        source = next(self._sources(asked, allowed), None)
        if source is None:
            self._miss(asked, now)
            return None
        made = self._making[asked.key] = asyncio.Event()
        try:
            return wanted(await self.made(source, asked, context, pool, deadline), asked)
        except BrokerError as error:
            _LOG.info("a held answer was not read: %s", error)
            self._miss(asked, now)
        except WorkerTaskError:
            _LOG.exception("a held answer could not be read")
            self._miss(asked, now)
        finally:
            del self._making[asked.key]
            made.set()
        return None

    def _miss(self, asked: Asked, now: float) -> None:
        name = asked.key, asked.policy  # other terms may allow what these do not
        self._missed[name] = now + NOT_AGAIN
        self._missed.move_to_end(name)
        if len(self._missed) > MOST_MISSED:
            self._missed.popitem(last=False)

    def stale(self, asked: Asked) -> Source | None:
        """The newest held answer that contains what is asked, whatever its age allows; see :class:`StaleContained`."""
        return next(self._sources(asked, lambda fresh: fresh.standing is not Standing.EXPIRED), None)

    async def made(
        self, source: Source, asked: Asked, context: CallContext, pool: PoolName, deadline: Deadline
    ) -> Answer:
        """The answer of a source, which is kept. Raises BrokerError and WorkerTaskError."""
        clock = self.cached.clock
        started = clock.monotonic()
        found = source.way
        table = await self._aggregator.table(pool, found.results, found.finish, asked.format, deadline)
        held = replace(source.held, table=table)
        self._keep(held, asked)
        answer = self.cached.handed(held, source.fresh, asked, context)
        name, seconds = held.status.parts[0].source_name, clock.monotonic() - started
        step = LadderStep(source.fresh.rung, Verdict.ANSWERED, name, duration=seconds)
        return replace(answer, status=replace(answer.status, ladder=(step,)))

    def _keep(self, held: Held, asked: Asked) -> None:
        age = max(0.0, (self.cached.clock.now() - held.as_of).total_seconds())
        lifetime = self.cached.ages(asked.plan.main.dataset).hard - age
        if lifetime > 0.0 and len(held.table.encoded) <= self.cached.max_entry:
            self.cached.answers.keep(held, lifetime)

    def _sources(self, asked: Asked, allowed: Allowed) -> Iterator[Source]:
        """Held answers that contain what is asked and are fresh enough, smallest first, newest of one size first."""
        plan = asked.plan
        asking = Asking(plan)
        every = self.cached.answers.held(plan.main.dataset.name)[:MOST_LOOKED]
        fitting = [
            held
            for held in every
            if held.content is not None
            and may_hold(asking, held.content, held.table.columns)
            and _complete(held.status)
            and suits(held, asked)
        ]
        fitting.sort(key=lambda held: (held.table.row_count, -held.as_of.timestamp()))
        proved = 0
        for container in fitting:
            held = _contained(container, asking, asked.key)
            fresh = self.cached.judge(held, asked)
            if not allowed(fresh) or fresh.kind not in asked.policy.accepted_kinds & CACHED:
                continue
            assert container.content is not None
            proved += 1
            found = way(asking, container.content, container.table, self._grids)
            if found is not None:
                yield Source(found, held, fresh)
            if proved == MOST_PROVED:
                return


@dataclass(frozen=True, slots=True)
class StaleContained(Older):
    """The rung of older answers that contain what is asked. It takes a worker of the pool, and no seat."""

    contained: Contained

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        """What a held answer contains of it."""
        asked = Asked.by(question, group)
        if (step := self.not_cached(asked)) is not None:
            return step
        source = self.contained.stale(asked)
        if source is None:
            return LadderStep(self.rung, Verdict.NOT_APPLICABLE, codes=("NOT_CONTAINED",))
        name = source.held.status.parts[0].source_name
        try:
            return await self.contained.made(source, asked, group.context, pool_of(group), deadline)
        except BrokerError as error:
            late = error.reason is ErrorReason.DEADLINE_EXCEEDED
            verdict = Verdict.TIMED_OUT if late else Verdict.FAILED
            return LadderStep(self.rung, verdict, name, codes=(error.reason.value,))
        except WorkerTaskError:
            _LOG.exception("a held answer could not be read")
            return LadderStep(self.rung, Verdict.FAILED, name, codes=(ErrorReason.INTERNAL.value,))


def _complete(status: AnswerStatus) -> bool:
    return status.exactness not in INCOMPLETE and not status.missing_intervals and not status.sealed_intervals


def _contained(container: Held, asking: Asking, key: str) -> Held:
    """What is held of a contained answer, with the container's table still in place of its own.

    It depends on nothing beyond what its own plan reads: whatever has changed elsewhere since leaves it as it is.
    """
    plan, status = asking.plan, container.status
    bounds, moved = plan.main.bounds, snapped_range(plan)
    part = AnswerPart(
        PartSource.CACHE,
        f"{NAMED}{container.key}",
        status.as_of,
        Interval(bounds.start, bounds.end) if bounds is not None else None,
        status.answer_version,
        container.table.row_count,
        1.0,
        max((each.replica_lag for each in status.parts if each.replica_lag is not None), default=None),
    )
    return Held(
        key,
        container.table,
        replace(
            status,
            exactness=exactness(plan) if moved is None else Exactness.SNAPPED,
            parts=(part,),
            effective_range=moved,
            bounds=error_bounds(plan),
            answer_version=fingerprint(plan.fingerprint, status.as_of),
        ),
        reach_of(plan, container.reach.rollups),
        container.moment,
        container.seconds,
        asking.content,
    )
