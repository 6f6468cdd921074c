"""A circuit breaker: keeps calls from a backend that fails, and finds out with few trials when it works again.

Closed, it counts. It opens when connections cannot be made several times in a row, or when a large part of the calls of
late has lost its server. Open, it rejects at once for a random time below a ceiling that doubles with every opening
(full jitter, so that brokers do not come back together). After it, half-open, single trials go through: some successes
in a row close it, the first failure opens it again. Evidence from before the last change of state is ignored.

The pattern is M. Nygard's (Release It!, 2007). Own code, because pybreaker, aiobreaker and purgatory count failures
without a rate, wait a fixed time on a clock of their own, and let any number of calls through when half-open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from broker.domain.state import Breaker

_SLICES = 10


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens and closes; times in seconds.

    It opens after ``in_a_row`` failures to connect without a success between them, or when of at least ``least_calls``
    calls of the last ``window`` the share ``failure_rate`` has failed. It stays open for a random time between
    ``shortest_open`` and a ceiling that begins at ``first_open`` and doubles up to ``longest_open``. Half-open, up to
    ``trials`` calls are let through one at a time, and ``successes`` of them close it; who is rejected while a trial is
    under way is told to come back after ``trial_wait``.
    """

    in_a_row: int = 5
    window: float = 10.0
    least_calls: int = 20
    failure_rate: float = 0.5
    shortest_open: float = 0.1
    first_open: float = 1.0
    longest_open: float = 2.0
    trials: int = 5
    successes: int = 2
    trial_wait: float = 0.25


class Change(StrEnum):
    """Why a breaker changed its state."""

    FAILURES_IN_A_ROW = "failures_in_a_row"
    FAILURE_RATE = "failure_rate"
    OPEN_TIME_OVER = "open_time_over"
    TRIAL_FAILED = "trial_failed"
    TRIALS_USED_UP = "trials_used_up"
    TRIALS_SUCCEEDED = "trials_succeeded"


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state; ``cause`` is the last failure, ``open_for`` the seconds that an opened breaker stays so."""

    before: Breaker
    after: Breaker
    reason: Change
    cause: str
    open_for: float = 0.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to call the backend, to be given back with how the call went. ``period`` counts changes of state."""

    period: int
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """No leave: ``cause`` is the last failure, ``since`` tells for how long, ``retry_after`` when to ask again."""

    state: Breaker
    cause: str
    since: float
    retry_after: float


class CircuitBreaker:
    """The breaker of one backend. ``now`` is in seconds of a clock that never goes back; ``random`` gives [0, 1)."""

    __slots__ = (
        "_cause", "_in_a_row", "_news", "_opened", "_openings", "_period", "_random", "_settings", "_since", "_state",
        "_successes", "_ticket", "_trials", "_under_way", "_until", "_window",
    )  # fmt: skip

    def __init__(self, settings: BreakerSettings, random: Callable[[], float]) -> None:
        self._settings, self._random = settings, random
        self._state = Breaker.CLOSED
        self._since = self._until = self._opened = float("-inf")
        self._period = self._openings = self._in_a_row = 0
        self._trials = self._successes = 0
        self._under_way = False
        self._cause = ""
        self._ticket = Ticket(0)
        self._window = _Window(settings.window)
        self._news: list[Transition] = []

    @property
    def state(self) -> Breaker:
        """The state that the last event left it in."""
        return self._state

    @property
    def cause(self) -> str:
        """The last failure while it is not closed; else empty."""
        return "" if self._state is Breaker.CLOSED else self._cause

    def news(self) -> tuple[Transition, ...]:
        """The changes since the last question for them."""
        found = tuple(self._news)
        self._news.clear()
        return found

    @property
    def leave(self) -> Ticket | None:
        """Leave for one call while it is closed, which needs no time; else None, and :meth:`admit` decides."""
        return self._ticket if self._state is Breaker.CLOSED else None

    def admit(self, now: float) -> Ticket | Rejected:
        """Leave for one call, or none."""
        if self._state is Breaker.CLOSED:
            return self._ticket
        if self._state is Breaker.OPEN:
            if now < self._until:
                return self._rejected(self._until - now, now)
            self._change(Breaker.HALF_OPEN, Change.OPEN_TIME_OVER, now)
        if self._under_way:
            return self._rejected(self._settings.trial_wait, now)
        self._under_way = True
        self._trials += 1
        return Ticket(self._period, trial=True)

    def barred(self, now: float) -> Rejected | None:
        """The rejection of those who got leave before it opened and have not called yet; None when it is not open."""
        if self._state is not Breaker.OPEN:
            return None
        return self._rejected(max(self._settings.shortest_open, self._until - now), now)

    def shut(self, now: float) -> Rejected | None:
        """The rejection that :meth:`admit` would give now, without asking for leave; None where it would let in."""
        if self._state is Breaker.OPEN and now < self._until:
            return self._rejected(self._until - now, now)
        if self._state is Breaker.HALF_OPEN and self._under_way:
            return self._rejected(self._settings.trial_wait, now)
        return None

    def succeeded(self, ticket: Ticket, now: float) -> None:
        """The backend did what was asked, or answered that it will not."""
        if ticket.period != self._period:
            return
        if not ticket.trial:
            self._in_a_row = 0
            self._window.add(now, failed=False)
            return
        self._under_way = False
        self._successes += 1
        if self._successes >= self._settings.successes:
            self._change(Breaker.CLOSED, Change.TRIALS_SUCCEEDED, now)
        else:
            self._bound_trials(now)

    def failed(self, ticket: Ticket, cause: str, now: float) -> None:
        """The backend was lost in the middle of a call."""
        if ticket.period != self._period:
            return
        self._cause = cause
        if ticket.trial:
            self._open(Change.TRIAL_FAILED, now)
        else:
            self._count(now)

    def released(self, ticket: Ticket, now: float) -> None:
        """The call ended without telling anything of the backend: its caller went away, or its time was over."""
        if ticket.trial and ticket.period == self._period:
            self._under_way = False
            self._bound_trials(now)

    def reached(self, began: float) -> None:
        """A connection was made."""
        if began >= self._since:
            self._in_a_row = 0

    def unreachable(self, cause: str, began: float, now: float) -> None:
        """A connection could not be made; the attempt began at ``began``."""
        if self._state is not Breaker.CLOSED:
            self._cause = cause
        if began < self._since or self._state is Breaker.OPEN:
            return
        if self._state is Breaker.HALF_OPEN:
            self._open(Change.TRIAL_FAILED, now)
            return
        self._cause = cause
        self._in_a_row += 1
        if self._in_a_row >= self._settings.in_a_row:
            self._open(Change.FAILURES_IN_A_ROW, now)
        else:
            self._count(now)

    def _count(self, now: float) -> None:
        self._window.add(now, failed=True)
        calls, failures = self._window.totals(now)
        if calls >= self._settings.least_calls and failures >= self._settings.failure_rate * calls:
            self._open(Change.FAILURE_RATE, now)

    def _bound_trials(self, now: float) -> None:
        """Without this a backend that never answers in time would be asked again and again, by every caller."""
        if self._trials >= self._settings.trials:
            self._open(Change.TRIALS_USED_UP, now)

    def _open(self, reason: Change, now: float) -> None:
        s = self._settings
        if self._state is Breaker.CLOSED:
            self._opened = now
            well = now - self._since >= s.window  # if not, the ceiling goes on from where it was
            if well:
                self._openings = 0
        if reason is not Change.TRIALS_USED_UP:
            self._openings += 1
        # The exponent is bounded, because 2.0 ** 1024 is an error.
        ceiling = min(s.longest_open, s.first_open * 2.0 ** min(max(self._openings - 1, 0), 60))
        seconds = max(s.shortest_open, ceiling * self._random())
        self._until = now + seconds
        self._change(Breaker.OPEN, reason, now, seconds)

    def _change(self, after: Breaker, reason: Change, now: float, open_for: float = 0.0) -> None:
        self._news.append(Transition(self._state, after, reason, self._cause, open_for))
        self._state, self._since = after, now
        self._period += 1
        self._ticket = Ticket(self._period)
        self._in_a_row = self._trials = self._successes = 0
        self._under_way = False
        self._window = _Window(self._settings.window)

    def _rejected(self, retry_after: float, now: float) -> Rejected:
        return Rejected(self._state, self._cause, now - self._opened, retry_after)


class _Window:
    """Calls and failures of the last ``seconds``, in slices that are forgotten one by one."""

    __slots__ = ("_calls", "_end", "_failures", "_place", "_slice", "_width")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _SLICES
        self._calls, self._failures = [0] * _SLICES, [0] * _SLICES
        self._slice = self._place = 0
        self._end = self._width

    def add(self, now: float, *, failed: bool) -> None:
        if now >= self._end:
            self._forget(now)
        self._calls[self._place] += 1
        if failed:
            self._failures[self._place] += 1

    def totals(self, now: float) -> tuple[int, int]:
        self._forget(now)
        return sum(self._calls), sum(self._failures)

    def _forget(self, now: float) -> None:
        current = int(now / self._width)
        if current <= self._slice:
            return
        for passed in range(max(self._slice, current - _SLICES) + 1, current + 1):
            self._calls[passed % _SLICES] = self._failures[passed % _SLICES] = 0
        self._slice, self._place = current, current % _SLICES
        self._end = (current + 1) * self._width
