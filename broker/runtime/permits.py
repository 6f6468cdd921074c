"""Seats as a context: a permit is asked for, waited for, and closed with how the work ended.

Work that is told to stop is cancelled in the way of :func:`asyncio.timeout`: its task gets a CancelledError, which
becomes the error for the caller where the context is left, unless somebody else has cancelled the task too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Protocol

from broker.domain.errors import BrokerError, ErrorReason
from broker.policy.admission.refusals import killed_error
from broker.policy.admission.values import AdmissionRequest, Admitted, Killed, Outcome


class Permit:
    """Seats that a request holds until :meth:`close`, which leaving the context does at the latest.

    It belongs to the task in which it was made.
    """

    __slots__ = (
        "_cancels",
        "_closed",
        "_killed",
        "_report",
        "_task",
        "decision",
        "pool",
        "request",
        "since",
        "wait",
    )

    def __init__(
        self,
        request: AdmissionRequest,
        decision: Admitted,
        since: float,
        report: Callable[[Permit, Outcome, float | None], None],
    ) -> None:
        task = asyncio.current_task()
        assert task is not None, "permits are for tasks"
        self.request = request
        self.decision = decision
        self.pool = decision.pool
        """The pool whose seats are held."""
        self.wait = decision.wait
        """Seconds that the request waited."""
        self.since = since
        """Instant of the admission on the monotonic clock."""
        self._report = report
        self._closed = False
        self._killed: tuple[Killed, float] | None = None
        self._task = task
        self._cancels = task.cancelling()

    def close(self, outcome: Outcome, seconds: float | None = None) -> None:
        """Gives the seats back; later calls change nothing.

        ``seconds`` is the time that the work took; without it, the time that the seats were held. A stream should close
        its permit when the database has finished, so that a slow reader holds nothing.
        """
        if not self._closed:
            self._closed = True
            self._report(self, outcome, seconds)

    @property
    def killed(self) -> bool:
        """Whether the work was told to stop."""
        return self._killed is not None

    def kill(self, killed: Killed, now: float) -> None:
        """Stops the work; leaving the context frees the seats, as always, and tells the caller why."""
        if not self._closed and self._killed is None:
            self._killed = killed, now - self.since
            self._task.cancel()

    def left(self, error: BaseException | None) -> None:
        """The context is left: takes back the cancel of :meth:`kill`.

        A generator in which the context is does not see the cancel of its reader but is closed by it; the error takes
        the place of the reader's cancel all the same, because closing the generator raises it.

        Raises:
            BrokerError: DEADLINE_EXCEEDED, when it was :meth:`kill` alone that ended the block.
        """
        if self._killed is None or asyncio.current_task() is not self._task:
            return
        others = self._task.uncancel() > self._cancels
        if not others and isinstance(error, asyncio.CancelledError | GeneratorExit):
            raise killed_error(*self._killed) from error


class Gate(Protocol):
    """What a permission needs of the admission."""

    async def enter(self, request: AdmissionRequest) -> Permit:
        """Waits for the permit."""
        ...


class Permission:
    """Asks for a permit on entering and closes it on leaving, with the outcome that fits what ended the block."""

    __slots__ = ("_gate", "_permit", "_request")

    def __init__(self, gate: Gate, request: AdmissionRequest) -> None:
        self._gate, self._request = gate, request
        self._permit: Permit | None = None

    async def __aenter__(self) -> Permit:
        self._permit = await self._gate.enter(self._request)
        return self._permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        permit = self._permit
        assert permit is not None
        permit.close(outcome_of(error))
        permit.left(error)
        return False


def outcome_of(error: BaseException | None) -> Outcome:
    """What an exception says about the work: cut short by time or by the caller, or nothing."""
    if error is None:
        return Outcome.SUCCESS
    if isinstance(error, asyncio.CancelledError | GeneratorExit | TimeoutError):
        return Outcome.DROPPED
    if isinstance(error, BrokerError) and error.reason is ErrorReason.DEADLINE_EXCEEDED:
        return Outcome.DROPPED
    return Outcome.IGNORED
