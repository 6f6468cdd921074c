"""Reads held answers again, behind those that were given out: when they are soon too old, changed, or after an outage.

Nobody waits for it, so it never stands in anybody's way: a few at a time and no more than a share of the seats, one
after the other with irregular gaps, at the lowest criticality. What is refused a seat is given up: the next caller asks
for it again, or reads it. While the database is away the wishes are kept, the bound of their number aside; once it is
back they are read at that same pace, those first that somebody asked for last.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Protocol

from broker.domain.answer import Answer
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.held import Held
from broker.domain.principal import Criticality
from broker.domain.request import CallContext
from broker.domain.terms import CacheMode, Consistency, FallbackMode
from broker.pipeline.cached import READ, Asked
from broker.pipeline.stage import Outcome
from broker.ports.clock import Clock
from broker.telemetry import catalog_cache as catalog
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

_AWAY = frozenset({ErrorReason.STORE_UNAVAILABLE})
"""The database is away: the wish is kept."""
_REFUSED = frozenset(
    {
        ErrorReason.OVERLOADED,
        ErrorReason.QUEUE_TIMEOUT,
        ErrorReason.DEADLINE_TOO_SHORT,
        ErrorReason.DEADLINE_EXCEEDED,
        ErrorReason.TENANT_QUOTA,
        ErrorReason.DRAINING,
    }
)
"""There is no room: the wish is given up."""
_LOG = logging.getLogger(__name__)


class Ask(Protocol):
    """Reads a question whatever is held, and holds its answer."""

    async def __call__(self, asked: Asked, context: CallContext) -> Sequence[Outcome]:
        """One outcome. Raises BrokerError where the question could not be asked at all."""
        ...


@dataclass(frozen=True, slots=True)
class RefreshTerms:
    """Limits, times in seconds.

    At most ``waiting`` wishes are kept, each for ``keep`` seconds after somebody asked for it last, and ``share`` of
    the seats, but one at least, are taken. Between two of them
    there are ``gap`` seconds on average, after a refusal ``pause``, which doubles with each one up to ``longest``. A
    refresh has ``deadline`` seconds, or ``patience`` times what the answer took to be read where that is more.
    """

    waiting: int = 2_000
    keep: float = 300.0
    share: float = 0.25
    gap: float = 0.005
    pause: float = 0.1
    longest: float = 1.0
    deadline: float = 10.0
    patience: float = 5.0


@dataclass(frozen=True, slots=True)
class _Wish:
    """A question to be read again, on whose behalf, what it took last, and when somebody asked for it last."""

    asked: Asked
    context: CallContext
    seconds: float
    at: float


class Revalidation:
    """Wishes, each key once, and what fulfils them. ``seats`` tells how many the pool of dashboards has now."""

    def __init__(
        self,
        seats: Callable[[], int],
        clock: Clock,
        rng: Random,
        telemetry: Telemetry,
        terms: RefreshTerms | None = None,
    ) -> None:
        self._seats, self._clock, self._rng = seats, clock, rng
        self._telemetry, self._terms = telemetry, terms or RefreshTerms()
        self._waiting: OrderedDict[str, _Wish] = OrderedDict()
        self._running: set[str] = set()
        self._stirred = asyncio.Event()
        self._troubles = 0
        self._number = 0

    @property
    def waiting(self) -> int:
        """Wishes that wait."""
        return len(self._waiting)

    def refresh(self, asked: Asked, held: Held, context: CallContext) -> bool:
        """Wishes for a newer answer; whether one is on its way. A wish that is there already becomes the first."""
        if asked.key in self._running:
            return True
        self._waiting[asked.key] = _Wish(_behind(asked), context, held.seconds, self._clock.monotonic())
        self._waiting.move_to_end(asked.key)
        if len(self._waiting) > self._terms.waiting:
            self._waiting.popitem(last=False)
            self._telemetry.cache_refresh("dropped")
        self._stirred.set()
        return True

    async def run(self, ask: Ask) -> None:
        """Goes on until it is cancelled; no error ends it."""
        forget = self._telemetry.observe(catalog.REFRESHES_WAITING, lambda: [(self.waiting, {})])
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._room()
                    key, wish = self._waiting.popitem()
                    if self._clock.monotonic() - wish.at > self._terms.keep:
                        self._telemetry.cache_refresh("dropped")
                        continue
                    self._running.add(key)
                    tasks.create_task(self._one(ask, wish))
                    await asyncio.sleep(self._rest())
        finally:
            forget()

    async def _room(self) -> None:
        """Waits until there is a wish and a seat for it. While there is trouble one at a time is tried."""
        while True:
            most = 1 if self._troubles else max(1, int(self._terms.share * self._seats()))
            if self._waiting and len(self._running) < most:
                return
            self._stirred.clear()
            await self._stirred.wait()

    def _rest(self) -> float:
        """Seconds until the next one may begin; irregular, so that brokers do not march in step."""
        terms = self._terms
        mean = terms.gap
        if self._troubles:
            mean = min(terms.longest, terms.pause * 2.0 ** min(self._troubles - 1, 10))
        return self._rng.uniform(0.5, 1.5) * mean

    async def _one(self, ask: Ask, wish: _Wish) -> None:
        """Reads one question again; nothing is raised but cancellation."""
        asked = wish.asked
        try:
            with self._telemetry.span(
                SpanName.REFRESH,
                attributes={n.DATASET: asked.plan.main.dataset.name},
                links=self._telemetry.links(wish.context.trace),
                parent=self._telemetry.extract({}),
            ) as span:
                outcome = await self._read(ask, wish)
                span.set_attribute(n.OUTCOME, outcome)
        finally:
            self._running.discard(asked.key)
            self._stirred.set()
        self._telemetry.cache_refresh(outcome)
        if outcome == "deferred" and asked.key not in self._waiting:
            self._waiting[asked.key] = wish
        self._troubles = 0 if outcome in ("read", "failed") else self._troubles + 1

    async def _read(self, ask: Ask, wish: _Wish) -> str:
        terms = self._terms
        own = self._context(wish, max(terms.deadline, terms.patience * wish.seconds))
        try:
            async with asyncio.timeout(own.deadline.remaining(self._clock.monotonic())):
                (outcome,) = await ask(wish.asked, own)
        except BrokerError as error:
            outcome = error
        except TimeoutError:
            return "refused"
        except Exception as error:  # noqa: BLE001 - whatever it is, others are read again
            _LOG.exception("a held answer could not be read again", exc_info=error)
            return "failed"
        if isinstance(outcome, Answer):
            return "read"
        if outcome.reason in _AWAY:
            return "deferred"
        return "refused" if outcome.reason in _REFUSED else "failed"

    def _context(self, wish: _Wish, seconds: float) -> CallContext:
        """A call of its own on behalf of the same principal, with nobody who waits.

        It counts from when it was asked for, so that what another process has read since will do.
        """
        self._number += 1
        context, now = wish.context, self._clock.monotonic()
        return replace(
            context,
            request_id=f"{context.request_id}/refresh-{self._number}",
            principal=replace(context.principal, criticality=Criticality.SHEDDABLE),
            deadline=Deadline.after(seconds, now),
            received=self._clock.now() - timedelta(seconds=now - wish.at),
            attempt=0,
            trace={},
            payload=0,
        )


def _behind(asked: Asked) -> Asked:
    """The question as it is asked behind an answer: read anew, from what is kept, or not at all."""
    policy = replace(
        asked.policy, cache=CacheMode.REVALIDATE, fallback=FallbackMode.FAIL, accepted_kinds=READ
    )
    return replace(asked, policy=policy, consistency=Consistency.BOUNDED)
