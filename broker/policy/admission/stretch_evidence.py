"""How fast queries go, from those that ended and those that are still at work: the median of their stretch.

The stretch of a query is ln(predicted / observed), of its time on an idle backend and its time of execution: 0 where
the prediction held, -0.69 where it took twice as long. Queries that are not done, or were cut short, are evidence too:
they take at least as long as they have taken. Counting only the late ones among them would make every backend look
slow, counting none would notice a change only after the queries that it slows down. So the median is that of the
survival curve of observed / predicted over the window (E. L. Kaplan and P. Meier, 1958; queries that were at work
before the window enter it late, as in the period life table).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

WINDOW, MOST, LEAST = 12.0, 96, 12
"""Seconds that samples count, how many count at most, and how many are needed to say anything."""
RECENT, SURE = 16, 3.0
"""So many samples whose median is so many standard errors away from that of all before them mark a change."""
TO_DEVIATION, TO_ERROR = 1.4826, 1.2533
"""From the median absolute deviation to the standard deviation, and from that to the error of a median (normal)."""
LONGEST_WINDOW, RUNTIMES = 300.0, 4.0
"""Where queries are long, samples count for so many of their median times, but never for longer."""


class Sample:
    """A query that ended at ``at``, or was cut short then unless it is ``done``; ``seats`` were in use meanwhile.

    ``stretch`` is ln(predicted / observed), ``multiple`` observed / predicted: a sample is read many times.
    """

    __slots__ = ("at", "done", "multiple", "predicted", "seats", "seconds", "stretch")

    def __init__(self, at: float, predicted: float, seconds: float, seats: float, done: bool) -> None:
        self.at = at
        self.predicted = predicted
        self.seconds = seconds
        self.seats = seats
        self.done = done
        self.stretch = math.log(predicted / seconds)
        self.multiple = seconds / predicted


class Running(NamedTuple):
    """A query at work, predicted to take so many seconds on an idle backend, after ``area`` seat-seconds of others."""

    since: float
    predicted: float
    seats: int
    area: float


Span = tuple[float, float, bool]
"""A query in multiples of its prediction: where it left the window, where it entered it, and whether it was done."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the samples say: their median stretch, at ``load`` = ln(seats in use), and how many there are."""

    stretch: float
    load: float
    count: int


class Evidence:
    """The samples of one backend."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()
        self.begin = -math.inf
        """Begin of the window."""
        self.runtime = 0.0
        """Median time of execution of late, in seconds; 0 when nothing has ended yet."""

    @property
    def count(self) -> int:
        """Queries that ended in the window."""
        return len(self._samples)

    @property
    def spread(self) -> float:
        """Standard deviation of the stretch of queries in the window, by its median: how far predictions scatter."""
        stretches = [sample.stretch for sample in self._samples]
        if not stretches:
            return 0.0
        middle = median(stretches)
        return TO_DEVIATION * median(abs(stretch - middle) for stretch in stretches)

    def add(self, sample: Sample) -> None:
        """One more; the oldest makes room."""
        self._samples.append(sample)
        if len(self._samples) > MOST:
            self._drop()

    def clear(self, now: float) -> None:
        """Forgets the samples: they are about conditions that have ended."""
        self._samples.clear()
        self.begin = now

    def read(self, running: Iterable[Running], seats: float, now: float) -> Reading | None:
        """The median, with running queries as evidence; None when there is too little of it."""
        self._forget(now)
        self._break()
        begin, spans = self.begin, list[Span]()
        for sample in self._samples:
            before = begin - sample.at + sample.seconds
            spans.append((sample.multiple, before / sample.predicted if before > 0.0 else 0.0, sample.done))
        late, count = 0, len(spans)
        for since, predicted, _, _ in running:
            if predicted > 0.0 and now > since:
                elapsed, before = now - since, begin - since
                spans.append((elapsed / predicted, before / predicted if before > 0.0 else 0.0, False))
                late += elapsed > predicted
        if count + late < LEAST:
            return None
        loads = fmean([*[sample.seats for sample in self._samples], seats])
        return Reading(-math.log(survival_median(spans)), math.log(max(1.0, loads)), count)

    def _break(self) -> None:
        """Forgets all but the latest samples if those are of another kind than all before."""
        if len(self._samples) < 2 * RECENT:
            return
        stretches = [sample.stretch for sample in self._samples]
        old, new = stretches[:-RECENT], stretches[-RECENT:]
        middle = median(old)
        spread = TO_DEVIATION * median([abs(x - middle) for x in old])
        error = TO_ERROR * spread * math.sqrt(1 / len(old) + 1 / len(new))
        if abs(median(new) - middle) > SURE * error:
            for _ in old:
                self._drop()

    def _forget(self, now: float) -> None:
        """Samples that are too old, unless the rest is too few and they are not older than a few queries take."""
        samples = self._samples
        if not samples:
            return
        self.runtime = median([sample.seconds for sample in samples])
        longest = min(LONGEST_WINDOW, max(WINDOW, RUNTIMES * self.runtime))
        while samples and (
            now - samples[0].at > longest or (len(samples) > LEAST and now - samples[0].at > WINDOW)
        ):
            self._drop()

    def _drop(self) -> None:
        self.begin = self._samples.popleft().at


def survival_median(spans: list[Span]) -> float:
    """The value that half of all queries exceed; what half of them have reached when fewer are known to have ended."""
    spans.sort()
    entries = sorted([entry for _, entry, _ in spans])
    survival = 1.0
    for left, (at, _, done) in enumerate(spans):
        if done:
            at_risk = bisect_left(entries, at) - left
            survival *= 1.0 - 1.0 / at_risk if at_risk > 1 else 0.0
            if survival <= 0.5:
                return at
    return spans[len(spans) // 2][0]
