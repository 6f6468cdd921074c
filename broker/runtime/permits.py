"""Seats as a context: a permit is asked for, waited for, and closed with how the work ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Protocol

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName
from broker.policy.admission.values import AdmissionRequest, Admitted, Outcome


class Permit:
    """Seats that a request holds until :meth:`close`, which leaving the context does at the latest."""

    __slots__ = ("_closed", "_report", "_since", "decision")

    def __init__(
        self, decision: Admitted, since: float, report: Callable[[Permit, Outcome, float | None], None]
    ) -> None:
        self.decision = decision
        self._since = since
        self._report = report
        self._closed = False

    @property
    def pool(self) -> PoolName:
        """The pool whose seats are held."""
        return self.decision.pool

    @property
    def wait(self) -> float:
        """Seconds that the request waited."""
        return self.decision.wait

    @property
    def since(self) -> float:
        """Instant of the admission on the monotonic clock."""
        return self._since

    def close(self, outcome: Outcome, seconds: float | None = None) -> None:
        """Gives the seats back; later calls change nothing.

        ``seconds`` is the time that the work took; without it, the time that the seats were held. A stream should close
        its permit when the database has finished, so that a slow reader holds nothing.
        """
        if not self._closed:
            self._closed = True
            self._report(self, outcome, seconds)


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
        assert self._permit is not None
        self._permit.close(outcome_of(error))
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
