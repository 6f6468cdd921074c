"""A limit that follows how fast the queries of a backend go: the stretch controller.

Limiters that compare latencies, such as those of Netflix's concurrency-limits and Envoy, need many short requests that
are alike. Analytical queries are few, long and differ by orders of magnitude. So each is compared with what it was
predicted to take on an idle backend: relative speed 1 is an idle backend, 0.5 one where all goes half as fast.

Seats beyond what runs at full speed make every query slower and none of them earlier; seats too few leave the backend
idle. How many run at full speed, and by how much predictions are wrong on the whole, are estimated together
(:mod:`broker.policy.admission.stretch_belief`): queries that are slow for their number become faster as there are
fewer, others do not. The limit is a number that is enough with a probability of four fifths, because a seat too few
costs four times what one too many does (the newsvendor's rule). It falls by a fifth and grows by 3 % at most at a time,
and only while it is what bounds the queries: while 90 % of it and more are in use.

A decision is made each second, or after eight queries. The speed of an idle backend is learned while few seats are in
use. What a backend says about itself comes first: a refused connection or a lack of memory takes 30 % at once, a known
recovery gives back what there was before. Without evidence the limit returns to the nominal one.
"""

from __future__ import annotations

import math

from broker.domain.pool import BackendLimits, LimitMode
from broker.policy.admission.stretch_belief import Belief
from broker.policy.admission.stretch_contention import Contention
from broker.policy.admission.stretch_evidence import (
    LEAST,
    SURE,
    TO_ERROR,
    WINDOW,
    Evidence,
    Reading,
    Running,
    Sample,
)
from broker.policy.admission.values import Outcome, Pressure, Signal

PERIOD, SHORTEST = 1.0, 0.05
"""Seconds between decisions, and the least of them where many queries end."""
COMPLETIONS = 8
"""Queries after which a decision is due."""
SLOW = 0.85
"""Relative speed below which a limit is none that is worth remembering."""
USED = 0.9
"""Share of the limit in use below which it stays: it is not what bounds the queries."""
QUIET, LOUD = 0.6, 0.75
"""Shares of the limit in use, on average and ever, below which the baseline is learned."""
ENOUGH = 0.8
"""Probability with which the limit is enough: one seat too few costs four times what one too many does."""
FALL, RISE, RISE_SEATS = 0.2, 0.03, 0.1
"""Steps down and up at most."""
USUAL_SCATTER = 0.5
"""Where predictions scatter more, a batch tells less, and what was believed is doubted so much later."""
LEAST_SCATTER, CLIPPED = 0.2, 2.0
"""Predictions are taken to scatter so far at least; what lies more deviations off counts as so many."""
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
        self._belief = self._before = Belief(limits.seats, limits.floor, limits.ceiling)
        self._batch: list[Sample] = []
        self._contention = Contention()
        self._running: dict[str, Running] = {}
        self._used = 0
        self._area = self._area_at = self._ticked_area = 0.0
        self._last: float | None = None
        self._ended = 0
        self._heard = 0.0
        self._cut_at = self._loud_at = -math.inf
        self._began = self._aged = 0.0
        self._stretch = 0.0
        self.baseline = 0.0
        self.progress = 1.0

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
    def bias(self) -> float:
        """Stretch of queries on an idle backend, as far as it is known: 0 where predictions are right."""
        return self.baseline + self._belief.bias

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
        sample = Sample(now, query.predicted, seconds, beside, done)
        self._evidence.add(sample)
        if self._limits.mode is not LimitMode.STATIC:
            self._batch.append(sample)
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
        if self._limits.mode is not LimitMode.STATIC:
            self._believe(reading, now)
        relative = math.exp(reading.stretch - self.bias)
        self.progress = min(1.0, max(SLOWEST, relative))
        if self._limits.mode is not LimitMode.STATIC:
            self._decide(relative, used, now)

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
            self._begin(self._belief, now)
            self._stretch = self.baseline
        elif now - self._cut_at >= max(PERIOD, self._evidence.runtime):
            self._cut_at = now
            self._set(HARD_CUT * self._seats)

    def _begin(self, belief: Belief, now: float) -> None:
        """Conditions have changed: of what was believed only the bias stays."""
        self._before, self._began, self._aged = belief.restarted(), now, now
        self._belief = self._before

    def _believe(self, reading: Reading, now: float) -> None:
        """Takes in what queries tell.

        While a window has not passed since the beginning, those that have ended are the shorter ones of all: then the
        reading counts, which knows of those at work. So it does when nothing ends any more and queries are late.
        """
        scatter = max(LEAST_SCATTER, self._evidence.spread)
        error = TO_ERROR * scatter / math.sqrt(max(LEAST, reading.count))
        late = self._belief.expected(reading.load) - (reading.stretch - self.baseline)
        if not self._batch and now - self._began >= WINDOW and late > SURE * error:
            self._begin(self._belief, now)
        contended = self._contention.seen(now)
        if now - self._began < WINDOW:
            self._belief, self._aged = self._before.restarted(), now
            self._belief.observe(reading.stretch - self.baseline, reading.load, error, contended=contended)
        elif self._batch:
            count = len(self._batch)
            load = math.log(max(1.0, sum(sample.seats for sample in self._batch) / count))
            middle = self._belief.expected(load) + self.baseline
            low, high = middle - CLIPPED * scatter, middle + CLIPPED * scatter
            stretch = sum(min(high, max(low, sample.stretch)) for sample in self._batch) / count
            if now - self._aged >= PERIOD:
                self._belief.age((now - self._aged) * min(1.0, USUAL_SCATTER / scatter))
                self._aged = now
            self._belief.observe(
                stretch - self.baseline, load, scatter / math.sqrt(count), contended=contended
            )
        self._batch.clear()

    def _decide(self, relative: float, used: float, now: float) -> None:
        """One step."""
        if self._contention.convoy(now):
            self._set(self._seats + FALL * (min(self._seats, HARD_CUT * used) - self._seats))
            return
        self._good *= 0.5 ** ((now - self._good_at) / REMEMBERED)
        self._good_at = now
        if relative >= SLOW:
            self._good = max(self._good, self._seats)
        if used < USED * max(1, int(self._seats)):
            return
        goal = self._belief.capacity(ENOUGH)
        if goal < self._seats:
            self._set(max(goal, (1.0 - FALL) * self._seats))
        elif not self._contention.seen(now):
            self._set(min(goal, (1.0 + RISE) * self._seats + RISE_SEATS))

    def _learn(self, load: float, now: float) -> None:
        if self._evidence.count < MANY:
            return
        self.baseline += RAISING * max(0.0, self._stretch - self.baseline - NOISE)
        quiet = QUIET * self._seats
        alone = not self._contention.crowded(quiet, now)
        if load <= quiet and alone and self._loud_at < self._evidence.begin:
            self.baseline += LEARNING * (self._stretch - self.baseline)
            self._belief.forget_bias(LEARNING)

    def _fall_back(self, now: float) -> None:
        if now - self._heard > max(SILENCE, WINDOW + self._evidence.runtime):
            self._set(float(self._limits.seats))
            self.progress = 1.0
            self._stretch = self.baseline
            self._begin(Belief(self._limits.seats, self._limits.floor, self._limits.ceiling), now)

    def _set(self, seats: float) -> None:
        self._seats = min(float(self._limits.ceiling), max(float(self._limits.floor), seats))

    def _wake(self, now: float) -> None:
        if self._last is None:
            self._last = self._heard = self._good_at = self._began = self._aged = now

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
