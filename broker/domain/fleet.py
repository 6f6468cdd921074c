"""Processes that share the seats of a backend: what each tells the others, and what it is granted.

A process is a *member*. All that it tells of one backend is a :class:`Report`; the report goes to the shared store
with a :class:`Beat`, about once a second, and a :class:`Reading` comes back. Seats are whole everywhere; only the limit
of the fleet is a fraction, because it moves by less than a seat.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.domain.pool import PoolName


class MemberKind(StrEnum):
    """What a member does with its seats: answers callers, or works on jobs."""

    BROKER = "broker"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member wants of a backend for one pool: the ``seats`` that it uses and waits for.

    ``share`` is the pool's among the pools of the backend, ``kept`` the part of that share that is not lent.
    """

    pool: PoolName
    seats: int
    share: float = 1.0
    kept: float = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Seat-seconds that a tenant has used of a pool at one member, counted since the tenant was last idle there."""

    pool: PoolName
    tenant: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """One member at one backend.

    ``running`` seats are in use at the speed ``progress``, relative to an idle backend. ``wished`` is what the member
    could use by its own judgement of the backend. The limit of the fleet stays between ``low`` and ``high``, which are
    both the configured seats where the limit is fixed.
    """

    member: str
    kind: MemberKind
    host: str
    running: int
    progress: float
    wished: int
    low: int
    high: int
    claims: tuple[Claim, ...] = ()
    usage: tuple[Usage, ...] = ()

    @property
    def demand(self) -> int:
        """Seats that it uses and waits for."""
        return sum(claim.seats for claim in self.claims)


@dataclass(frozen=True, slots=True)
class Beat:
    """A report with what its member asks for.

    ``target`` is the lease that it computes for itself. ``limit`` is the one that it proposes for the whole fleet,
    having seen ``revision`` of the present one. With ``probe`` it asks to be the one that tries a few seats more,
    ``extra`` of them.
    """

    backend: str
    report: Report
    target: int
    limit: float
    revision: int = 0
    probe: bool = False
    extra: int = 0


@dataclass(frozen=True, slots=True)
class Leased:
    """A report as others read it, with the seats that its member holds."""

    report: Report
    seats: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The fleet at one backend as a member finds it: itself first of all.

    ``seats`` is what it may use from now on. ``turn`` grows every few seconds and is the same for all who read.
    ``probing`` tells that this member holds the token to try more.
    """

    seats: int
    limit: float
    revision: int
    turn: int
    probing: bool
    members: tuple[Leased, ...]
