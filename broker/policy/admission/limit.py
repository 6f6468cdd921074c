"""How many seats a backend offers: the interface of every limit policy, and the one that never changes its mind."""

from __future__ import annotations

from typing import Protocol

from broker.policy.admission.values import Outcome, Pressure, Signal


class LimitPolicy(Protocol):
    """Decides the limit of one backend from how its queries go. Pure: time is an argument, nothing is awaited.

    The core tells of every query that starts and ends, so that a policy can take running ones as evidence, and calls
    :meth:`tick` at :meth:`next_tick`. All durations are seconds of execution; waiting for a seat is not part of them.
    """

    @property
    def limit(self) -> int:
        """Seats that may be used now: whole, and compared with whole numbers everywhere."""
        ...

    @property
    def wished(self) -> int:
        """Seats that the policy would offer; differs from ``limit`` only where the policy is not in force."""
        ...

    @property
    def progress(self) -> float:
        """Speed of queries relative to an idle backend, above 0 and at most 1."""
        ...

    def started(self, id: str, predicted: float, seats: int, now: float) -> None:
        """A query begins; ``predicted`` is its median time on an idle backend, 0 when unknown."""
        ...

    def ended(self, id: str, outcome: Outcome, seconds: float, now: float) -> None:
        """A query that was started has ended after ``seconds`` of execution."""
        ...

    def tick(self, waiting: bool, now: float) -> None:
        """Time to decide; ``waiting`` says whether requests wait for seats."""
        ...

    def next_tick(self) -> float | None:
        """The instant of the next decision, None for a policy that makes none."""
        ...

    def signal(self, news: Signal | Pressure, now: float) -> None:
        """The backend has told something about itself."""
        ...


class StaticLimit:
    """A :class:`LimitPolicy` that offers the same seats whatever happens."""

    def __init__(self, seats: int) -> None:
        self.limit = self.wished = seats
        self.progress = 1.0

    def started(self, id: str, predicted: float, seats: int, now: float) -> None:
        """Changes nothing."""

    def ended(self, id: str, outcome: Outcome, seconds: float, now: float) -> None:
        """Changes nothing."""

    def tick(self, waiting: bool, now: float) -> None:
        """Changes nothing."""

    def next_tick(self) -> float | None:
        """Never."""
        return None

    def signal(self, news: Signal | Pressure, now: float) -> None:
        """Changes nothing."""
