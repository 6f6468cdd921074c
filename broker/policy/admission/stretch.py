"""A limit that follows how fast the queries of a backend go: the stretch controller.

Limiters that compare latencies, such as those of Netflix's concurrency-limits and Envoy, need many short requests that
are alike. Analytical queries are few, long and differ by orders of magnitude. So each is compared with what it was
predicted to take on an idle backend: relative speed 1 is an idle backend, 0.5 one where all goes half as fast.

    relative speed   seats in use       limit
    below 0.85       90 % and more      falls, by a fifth of the way to what the backend does at full speed
    above 0.93       90 % and more      grows, by 2 % and a tenth of a seat
    else                                stays

A decision is made each second, or after eight queries. The speed of an idle backend is learned while few seats are in
use; a guard (:mod:`broker.policy.admission.stretch_slope`) notices when it is wrong all the same. What a backend says
about itself comes first: a refused connection or a lack of memory takes 30 % at once, a known recovery gives back what
there was before. Without evidence the limit returns to the nominal one.
"""

from __future__ import annotations

import math

from broker.domain.pool import BackendLimits, LimitMode
from broker.policy.admission.stretch_contention import Contention
from broker.policy.admission.stretch_evidence import WINDOW, Evidence, Reading, Running, Sample
from broker.policy.admission.stretch_slope import SlopeGuard
from broker.policy.admission.values import Outcome, Pressure, Signal

PERIOD, SHORTEST = 1.0, 0.05
"""Seconds between decisions, and the least of them where many queries end."""
COMPLETIONS = 8
"""Queries after which a decision is due."""
SLOW, FULL_SPEED = 0.85, 0.93
"""Relative speeds below which the limit falls, and above which it may grow."""
USED = 0.9
"""Share of the limit in use below which it stays: it is not what bounds the queries."""
QUIET, LOUD = 0.6, 0.75
"""Shares of the limit in use, on average and ever, below which the baseline is learned."""
HEADROOM, STEP = 1.05, 0.2
"""The limit falls to so much more than is done at full speed, by this part of the way."""
GROWTH, GROWTH_SEATS = 0.02, 0.1
RETURN = 0.01
"""Growth while speed is neither, up to the nominal limit: the baseline may be a little wrong."""
LEARNING, RAISING = 0.02, 0.002
"""Weight of new evidence in the baseline, while quiet, and when queries are faster than it at any time."""
NOISE, MANY = 0.1, 48
"""So far a median may be above the baseline by chance."""
HARD_CUT = 0.7
REMEMBERED = 1800.0
"""Seconds after which half of the best limit is forgotten; a known recovery gives back what is remembered."""
SILENCE = 30.0
"""Seconds without any evidence after which the limit is the nominal one."""
SLOWEST = 0.01
"""Least relative speed that is reported: others divide by it."""


class StretchLimit:
    """A :class:`broker.policy.admission.limit.LimitPolicy`.

    In the mode ``static`` only :attr:`progress` is measured; in the mode ``shadow`` :attr:`wished` moves too.
    """

    def __init__(self, limits: BackendLimits) -> None:
        self._limits = limits
        self._seats = float(limits.seats)
        self._good, self._good_at = self._seats, 0.0
        self._evidence = Evidence()
        self._guards = (SlopeGuard(1.0), SlopeGuard(8.0))
        self._contention = Contention()
        self._running: dict[str, Running] = {}
        self._used = 0
        self._area = self._area_at = self._ticked_area = 0.0
        self._last: float | None = None
        self._ended = 0
        self._heard = 0.0
        self._cut_at = self._loud_at = -math.inf
        self._stretch = 0.0
        self.baseline = 0.0
        self.progress = 1.0
        self.acquittals = 0
        """Times that the slope guard found queries to be slow for another reason than their number."""

    @property
    def limit(self) -> int:
        """Seats that may be used now; 0 while memory runs out."""
        if self._limits.mode is not LimitMode.ADAPTIVE:
            return self._limits.seats
        return self.wished

    @property
    def wished(self) -> int:
        """Seats that the controller would offer."""
        return 0 if self._contention.stopped else int(self._seats)

    @property
    def slope(self) -> float:
        """Slope of stretch over ln(seats in use) when the guard looked last; -1 is a shared processor."""
        return self._guards[0].slope

    def started(self, id: str, predicted: float, seats: int, now: float) -> None:
        """A query begins."""
        self._count(seats, now)
        self._running[id] = Running(now, predicted, seats, self._area)
        if self._used > LOUD * self._seats:
            self._loud_at = now
        if self._last is None:
            self._wake(now)

    def ended(self, id: str, outcome: Outcome, seconds: float, now: float) -> None:
        """A query has ended. One cut short counts only if it was late by then; one that did nothing not at all."""
        query = self._running.pop(id)
        self._count(-query.seats, now)
        if query.predicted <= 0.0 or seconds <= 0.0 or outcome is Outcome.IGNORED:
            return
        done = outcome is Outcome.SUCCESS
        beside = (self._area - query.area) / (now - query.since) if now > query.since else float(self._used)
        self._evidence.add(Sample(now, query.predicted, seconds, beside, done))
        self._ended += 1

    def next_tick(self) -> float | None:
        """The next decision; None before the first query."""
        if self._last is None:
            return None
        return self._last + (SHORTEST if self._ended >= COMPLETIONS else PERIOD)

    def tick(self, waiting: bool, now: float) -> None:  # noqa: ARG002 - the interface: what is in use says enough
        """Decides."""
        used = self._mean_used(now)
        self._last, self._ended = now, 0
        self._contention.expire(now)
        reading = self._evidence.read(self._running.values(), used, now)
        if reading is None:
            self._fall_back(now)
            return
        self._heard = now
        self._stretch = reading.stretch
        self._learn(math.exp(reading.load), now)
        relative = math.exp(reading.stretch - self.baseline)
        self.progress = min(1.0, max(SLOWEST, relative))
        if self._limits.mode is not LimitMode.STATIC:
            for guard in self._guards:
                if reading.broken:
                    guard.clear()
                guard.add(reading.load, reading.stretch, now)
            self._decide(reading, used, now)

    def signal(self, news: Signal | Pressure, now: float) -> None:
        """The backend has told something about itself."""
        if self._limits.mode is LimitMode.STATIC:
            return
        self._wake(now)
        if isinstance(news, Pressure):
            self._contention.hear(news, now)
        elif news is Signal.RECOVERED:
            self._set(max(self._seats, self._good))
            self._evidence.clear(now)
            self._clear_guards()
            self._stretch = self.baseline
        elif now - self._cut_at >= max(PERIOD, self._evidence.runtime):
            self._cut_at = now
            self._set(HARD_CUT * self._seats)

    def _decide(self, reading: Reading, used: float, now: float) -> None:
        """One step. Queries that ended ran at another limit: what they tell is related to what was in use then."""
        if self._contention.convoy(now):
            self._step_to(min(self._seats, HARD_CUT * used))
            return
        relative = math.exp(reading.stretch - self.baseline)
        capacity = math.exp(reading.load) * relative
        predicted = min(1.0, capacity / max(used, 1.0))
        slow = max(relative, predicted) < SLOW
        self._good *= 0.5 ** ((now - self._good_at) / REMEMBERED)
        self._good_at = now
        if not slow:
            self._good = max(self._good, self._seats)
        if used < USED * max(1, int(self._seats)):
            return
        contended = self._contention.seen(now)
        if relative <= FULL_SPEED and not contended and self._acquitted():
            return
        if slow:
            self._step_to(min(self._seats, HEADROOM * capacity))
        elif min(relative, predicted) > FULL_SPEED and not contended:
            self._set(self._seats * (1.0 + GROWTH) + GROWTH_SEATS)
        elif min(relative, predicted) > SLOW and not contended:
            self._set(max(self._seats, min(self._seats * (1.0 + RETURN), self._limits.seats)))

    def _step_to(self, seats: float) -> None:
        self._set(self._seats + STEP * (seats - self._seats))

    def _acquitted(self) -> bool:
        """Whether a guard finds another reason for slow queries than their number: then they are what is normal."""
        verdicts = [guard.stretch for guard in self._guards if guard.acquits()]
        if not verdicts:
            return False
        self.baseline = verdicts[0]
        self.acquittals += 1
        self._clear_guards()
        return True

    def _learn(self, load: float, now: float) -> None:
        if self._evidence.count < MANY:
            return
        self.baseline += RAISING * max(0.0, self._stretch - self.baseline - NOISE)
        quiet = QUIET * self._seats
        alone = not self._contention.crowded(quiet, now)
        if load <= quiet and alone and self._loud_at < self._evidence.begin:
            self.baseline += LEARNING * (self._stretch - self.baseline)

    def _fall_back(self, now: float) -> None:
        if now - self._heard > max(SILENCE, WINDOW + self._evidence.runtime):
            self._set(float(self._limits.seats))
            self.progress = 1.0
            self._stretch = self.baseline
            self._clear_guards()

    def _set(self, seats: float) -> None:
        self._seats = min(float(self._limits.ceiling), max(float(self._limits.floor), seats))

    def _clear_guards(self) -> None:
        for guard in self._guards:
            guard.clear()

    def _wake(self, now: float) -> None:
        if self._last is None:
            self._last = self._heard = self._good_at = now

    def _count(self, change: int, now: float) -> None:
        self._area += self._used * (now - self._area_at)
        self._area_at = now
        self._used += change

    def _mean_used(self, now: float) -> float:
        """Mean seats in use since the last decision."""
        self._count(0, now)
        last = self._last if self._last is not None else now
        mean = (self._area - self._ticked_area) / (now - last) if now > last else float(self._used)
        self._ticked_area = self._area
        return mean
