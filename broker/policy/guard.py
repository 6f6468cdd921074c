"""When the broker protects itself: from the lag of its event loop and from the memory in use to what it does about it.

A broker that is short of time or memory serves nobody well, and decides late too, so it refuses before it reads what is
asked. A lagging loop first keeps out whoever can be shed, then all but the most important calls; memory first asks for
cheaper answers, then keeps new calls out, and at last ends the largest stream. Every step is taken above one mark and
taken back below a lower one, after it has held for a time, so that one slow moment changes nothing and nothing
flutters. (The marks are those of Envoy's overload manager in kind; the lag takes the place of its processor.)
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from broker.domain.principal import Criticality

LAG_WINDOW = 2.0
"""Seconds whose lag counts: with ten samples a second one outlier in it is none."""
LAG_PERCENT = 95


class Factor(StrEnum):
    """What is short."""

    LOOP_LAG = "loop_lag"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a step begins and ends.

    It is taken when a value has been at ``enter`` or above for ``rise`` seconds, and taken back when it has been below
    ``leave`` for ``fall`` seconds.
    """

    enter: float
    leave: float
    rise: float
    fall: float


@dataclass(frozen=True, slots=True)
class Marks:
    """All steps: lag in seconds, memory as a share of what there is."""

    slow: Mark = Mark(0.050, 0.025, rise=1.0, fall=1.0)
    stuck: Mark = Mark(0.250, 0.100, rise=2.0, fall=1.0)
    degrade: Mark = Mark(0.80, 0.75, rise=0.0, fall=1.0)
    refuse: Mark = Mark(0.90, 0.87, rise=0.0, fall=1.0)
    cut: Mark = Mark(0.95, 0.92, rise=0.0, fall=0.0)

    @classmethod
    def of_lag(cls, limit: float) -> Marks:
        """The marks for the lag in seconds from which calls are refused."""
        slow = Mark(limit, limit / 2, rise=1.0, fall=1.0)
        return cls(slow, Mark(5 * limit, 2 * limit, rise=2.0, fall=1.0))


@dataclass(frozen=True, slots=True)
class Posture:
    """What the broker does now.

    Calls below ``admits`` are refused for want of ``factor``, whose value is ``measured`` where ``bound`` is allowed;
    None refuses nobody. ``degrade`` asks for cheaper answers, ``cut`` for the end of the largest stream, and
    ``healthy`` is what health checks are told.
    """

    admits: Criticality | None = None
    factor: Factor = Factor.LOOP_LAG
    measured: float = 0.0
    bound: float = 0.0
    degrade: bool = False
    cut: bool = False
    healthy: bool = True


class Step:
    """One mark and whether its step is taken."""

    __slots__ = ("_mark", "_since", "taken")

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._since = math.inf
        self.taken = False

    def observe(self, value: float, now: float) -> bool:
        """Takes the value in; returns whether the step is taken."""
        mark = self._mark
        turning = value < mark.leave if self.taken else value >= mark.enter
        if not turning:
            self._since = math.inf
            return self.taken
        self._since = min(self._since, now)
        if now - self._since >= (mark.fall if self.taken else mark.rise):
            self.taken = not self.taken
            self._since = math.inf
        return self.taken


class SelfDefence:
    """The state machine. ``now`` is the monotonic clock in seconds; samples of the lag come several times a second."""

    def __init__(self, marks: Marks | None = None) -> None:
        self._marks = marks = marks or Marks()
        self._slow, self._stuck = Step(marks.slow), Step(marks.stuck)
        self._degrade, self._refuse, self._cut = Step(marks.degrade), Step(marks.refuse), Step(marks.cut)
        self._lags: deque[tuple[float, float]] = deque()
        self._memory = 0.0

    def observe(self, lag: float, memory: float | None, now: float) -> Posture:
        """A sample of the lag in seconds, and of the memory in use as a share; None when that was not measured now."""
        self._lags.append((now, lag))
        while self._lags[0][0] < now - LAG_WINDOW:
            self._lags.popleft()
        if memory is not None:
            self._memory = memory
        slowness = self._percentile()
        for step in (self._slow, self._stuck):
            step.observe(slowness, now)
        for step in (self._degrade, self._refuse, self._cut):
            step.observe(self._memory, now)
        return self._posture(slowness)

    def _posture(self, slowness: float) -> Posture:
        marks = self._marks
        degrade, cut, healthy = self._degrade.taken, self._cut.taken, not self._stuck.taken
        if self._refuse.taken or cut:
            return Posture(
                Criticality.CRITICAL_PLUS,
                Factor.MEMORY,
                self._memory,
                marks.refuse.enter,
                degrade,
                cut,
                healthy,
            )
        if self._stuck.taken:
            return Posture(
                Criticality.CRITICAL_PLUS, Factor.LOOP_LAG, slowness, marks.stuck.enter, degrade, cut, healthy
            )
        if self._slow.taken:
            return Posture(
                Criticality.CRITICAL, Factor.LOOP_LAG, slowness, marks.slow.enter, degrade, cut, healthy
            )
        return Posture(degrade=degrade)

    def _percentile(self) -> float:
        ordered = sorted(lag for _, lag in self._lags)
        return ordered[math.ceil(len(ordered) * LAG_PERCENT / 100) - 1]
