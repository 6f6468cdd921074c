"""What stands before one database: its circuit breaker, its retry budget, and what is told of both.

Connections are judged where they are made, whoever waits for them; statements where their connection is lost. The
policy decides (:mod:`broker.policy.breaker`, :mod:`broker.policy.retries`); here it is given the time, and speaks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeAlias

import asyncpg

from broker.adapters.pg_errors import NotConnectedError, cause_of, in_words
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.state import Breaker
from broker.policy.admission.values import Signal
from broker.policy.breaker import BreakerSettings, CircuitBreaker, Rejected, Ticket, Transition
from broker.policy.retries import RetryBudget, RetrySettings, Stop
from broker.telemetry import names as n
from broker.telemetry.catalog import BREAKER_STATE
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading

GIVEN_UP = 1.0
"""A connection that was not made in so many seconds counts as failed even when its caller's time ended first."""
_SOON = 0.05
"""Seconds that are told as a moment."""
_LEVELS = {Breaker.CLOSED: 0, Breaker.HALF_OPEN: 1, Breaker.OPEN: 2}
_LOG = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"  # generic for type checkers only
Setup: TypeAlias = Callable[[Connection], Awaitable[None]]
Listener: TypeAlias = Callable[[str, Transition], None]
"""Is told the name of a backend and how its breaker changed."""
Strained: TypeAlias = Callable[[str, Signal], None]
"""Is told the name of a backend and what it lacks."""
_STRAIN = {"53200": Signal.OUT_OF_MEMORY, "53300": Signal.CONNECTION_REFUSED}
Connect: TypeAlias = Callable[..., Coroutine[Any, Any, Connection]]


class Guard:
    """Stands before the database ``backend``, which people know as ``title``. ``clock`` is monotonic.

    ``store`` says in errors what it holds.
    """

    def __init__(
        self,
        backend: str,
        clock: Callable[[], float],
        random: Callable[[], float],
        telemetry: Telemetry,
        *,
        title: str = "",
        store: str = "analytical",
        breaker: BreakerSettings | None = None,
        retries: RetrySettings | None = None,
    ) -> None:
        self.backend = backend
        self._title = title or f"The database {backend!r}"
        self._store, self._clock, self._telemetry = store, clock, telemetry
        self._breaker = CircuitBreaker(breaker or BreakerSettings(), random)
        self._budget = RetryBudget(retries or RetrySettings(), random, clock())
        self._forget = telemetry.observe(BREAKER_STATE, self._level)
        self._listeners: list[Listener] = []
        self._strained: list[Strained] = []
        self._standby = True

    @property
    def state(self) -> Breaker:
        """The breaker's state."""
        return self._breaker.state

    @property
    def cause(self) -> str:
        """Why the breaker is not closed; empty when it is."""
        return in_words(self._breaker.cause)

    def listen(self, listener: Listener, strained: Strained | None = None) -> None:
        """Calls the listeners from now on: with every change, and when the server lacks connections or memory."""
        self._listeners.append(listener)
        if strained is not None:
            self._strained.append(strained)

    def close(self) -> None:
        """Ends what it tells."""
        self._forget()
        self._listeners.clear()
        self._strained.clear()

    def admit(self, *, again: bool = False) -> Ticket | Rejected:
        """Leave for a call, ``again`` when it was tried before."""
        if not again:
            self._budget.called()
        if (leave := self._breaker.leave) is not None:
            return leave
        entry = self._breaker.admit(self._clock())
        self._tell()
        return entry

    def down(self) -> BrokerError | None:
        """The error of a call that would get no leave now; nothing is counted."""
        if self._breaker.leave is not None:
            return None
        rejected = self._breaker.shut(self._clock())
        return None if rejected is None else self._refusal(rejected)

    def enter(self, *, again: bool = False) -> Ticket:
        """The same, or an error.

        Raises:
            BrokerError: STORE_UNAVAILABLE, which says why and when the database is tried again.
        """
        entry = self.admit(again=again)
        if isinstance(entry, Rejected):
            raise self.refusal(entry)
        return entry

    def refusal(self, rejected: Rejected) -> BrokerError:
        """The error of a call that got no leave."""
        self._telemetry.breaker_rejection(self.backend, "refused")
        return self._refusal(rejected)

    def _refusal(self, rejected: Rejected) -> BrokerError:
        wait = rejected.retry_after
        due = "In a moment it is tried again" if wait < _SOON else f"In {wait:.1f} s it is tried again"
        when = "It is being tried now" if rejected.state is Breaker.HALF_OPEN else due
        text = (
            f"{self._title} cannot answer, for {rejected.since:.1f} s now: {in_words(rejected.cause)}. "
            f"{when}. Retry after the hint."
        )
        metadata = {
            "store": self._store,
            "backend": self.backend,
            "breaker": rejected.state.value,
            "error": rejected.cause,
            "unavailable_seconds": f"{rejected.since:.1f}",
            "retry_after_seconds": f"{wait:.1f}",
        }
        return BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=wait, metadata=metadata)

    def diverted(self) -> None:
        """A call that got no leave reads another database."""
        self._telemetry.breaker_rejection(self.backend, "diverted")

    def succeeded(self, ticket: Ticket) -> None:
        """The server answered the call."""
        self._breaker.succeeded(ticket, self._clock())
        if ticket.trial:
            self._tell()

    def failed(self, ticket: Ticket, error: BaseException) -> None:
        """The server was lost in the middle of the call."""
        self._breaker.failed(ticket, cause_of(error), self._clock())
        self._tell()

    def noticed(self, error: BaseException) -> None:
        """Something failed at the server; when it lacks connections or memory, those who listen are told."""
        if (news := _STRAIN.get(str(getattr(error, "sqlstate", None) or ""))) is not None:
            for strained in tuple(self._strained):
                strained(self.backend, news)

    def follows(self, *, standby: bool) -> None:
        """What a replica says of itself: one that is no standby, or not any more, is told of once."""
        if standby is self._standby:
            return
        self._standby = standby
        if standby:
            _LOG.info("%s is a standby again", self._title)
        else:
            text = (
                "%s is declared as a replica and is no standby: how old its answers are cannot be told. If it was "
                "promoted, make it the primary, `database.dsn`"
            )
            _LOG.warning(text, self._title)

    def released(self, ticket: Ticket) -> None:
        """The call ended and told nothing of the server."""
        self._breaker.released(ticket, self._clock())
        self._tell()

    def again(self, attempts: int, end: float) -> float | None:
        """The pause before one more attempt of a call that failed so many times; None when there is none."""
        pause = self._budget.again(attempts, self._clock(), end)
        if isinstance(pause, Stop):
            self._telemetry.store_retry(self.backend, pause.value)
            return None
        self._telemetry.store_retry(self.backend, "retried")
        return pause

    def connecting(self, setup: Setup) -> Connect:
        """Makes connections for a pool, each made ready by ``setup``; the breaker learns how that went.

        Raises:
            BrokerError: The breaker has opened since leave was given; many callers may have waited for a connection.
            NotConnectedError: The time to connect is over. A TimeoutError would look like the caller's deadline.
        """

        async def connect(*arguments: Any, **options: Any) -> Connection:
            began = self._clock()
            if (rejected := self._breaker.barred(began)) is not None:
                raise self.refusal(rejected)
            try:
                connection: Connection = await asyncpg.connect(*arguments, **options)
                try:
                    await setup(connection)
                except BaseException:
                    connection.terminate()
                    raise
            except asyncio.CancelledError:
                if self._clock() - began >= GIVEN_UP:
                    self._unreachable("not_connected", began)
                raise
            except TimeoutError as error:
                self._unreachable("not_connected", began)
                raise NotConnectedError("no connection in time") from error
            except Exception as error:
                self.noticed(error)
                self._unreachable(cause_of(error), began)
                raise
            self._breaker.reached(began)
            return connection

        return connect

    def _unreachable(self, cause: str, began: float) -> None:
        self._breaker.unreachable(cause, began, self._clock())
        self._tell()

    def _tell(self) -> None:
        for change in self._breaker.news():
            self._telemetry.breaker_change(self.backend, change.after.value, change.reason.value)
            level, text = _line(change)
            _LOG.log(level, "%s %s", self._title, text, extra={"reason": change.reason.value})
            for listener in tuple(self._listeners):
                listener(self.backend, change)

    def _level(self) -> Iterable[Reading]:
        yield _LEVELS[self._breaker.state], {n.BACKEND: self.backend}


def _line(change: Transition) -> tuple[int, str]:
    """Level and text of a change in the log; an outage is one warning, not many."""
    match change.after:
        case Breaker.CLOSED:
            return logging.INFO, "answers again"
        case Breaker.OPEN:
            first = change.before is Breaker.CLOSED
            text = f"is left alone for {change.open_for:.1f} s: {in_words(change.cause)}"
            return logging.WARNING if first else logging.INFO, text
        case Breaker.HALF_OPEN:
            return logging.DEBUG, "is tried again"
