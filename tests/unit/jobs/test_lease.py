"""The lease: kept by a thread, given up when the database is away, the end of a process that stood still."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from random import Random

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.jobs.lease import EXIT_CODE, LeaseKeeper
from broker.jobs.loops import Failures
from broker.ports.jobs import WorkerIdentity

SECONDS = 2.0


class FakeLease:
    """Lease rows that can be away, and can be taken from their worker."""

    def __init__(self) -> None:
        self.away = False
        self.replies = True
        self.taken = False
        self.registered: list[str] = []
        self.ended: list[str] = []
        self.renewals = threading.Semaphore(0)
        self.failures = threading.Semaphore(0)

    async def register(self, worker: WorkerIdentity, seconds: float) -> None:
        self._reach()
        self.registered.append(worker.id)
        if not self.replies:
            self.failures.release()
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "the connection was cut", retry_after=1.0)

    async def renew(self, worker_id: str, seconds: float) -> bool:
        self._reach()
        assert worker_id == self.registered[-1]
        self.renewals.release()
        return not self.taken

    async def end(self, worker_id: str) -> None:
        self._reach()
        self.ended.append(worker_id)

    async def close(self) -> None:
        pass

    def _reach(self) -> None:
        if self.away:
            self.failures.release()
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "away", retry_after=1.0)


@dataclass
class Holder:
    """A worker that says what it was told. It lets go at once where `lets_go`."""

    lets_go: bool = True
    told: SimpleQueue[str] = field(default_factory=SimpleQueue)

    def gained(self, worker_id: str) -> None:
        self.told.put(f"gained {worker_id}")

    def lost(self, released: Callable[[], None]) -> None:
        self.told.put("lost")
        if self.lets_go:
            released()

    def kill(self) -> None:
        self.told.put("kill")

    def hears(self, *expected: str) -> None:
        for text in expected:
            assert self.told.get(timeout=60) == text


@dataclass
class Kept:
    """A keeper under test."""

    keeper: LeaseKeeper
    lease: FakeLease
    exits: SimpleQueue[int]
    offset: list[float]


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    lease, exits, offset, names = FakeLease(), SimpleQueue[int](), [0.0], map(str, itertools.count())
    keeper = LeaseKeeper(
        lambda: lease,
        lambda: WorkerIdentity(next(names), "host", 1, "test", 1),
        getattr(request, "param", SECONDS),
        clock=lambda: time.monotonic() + offset[0],
        exit=exits.put,
        rng=Random(3),
    )
    yield Kept(keeper, lease, exits, offset)
    keeper.stop()


def test_it_is_renewed_and_ended(kept: Kept) -> None:
    holder = Holder()
    kept.keeper.start(holder)
    holder.hears("gained 0")
    for _ in range(3):
        assert kept.lease.renewals.acquire(timeout=60)
    kept.keeper.stop()
    assert kept.lease.ended == ["0"]
    assert holder.told.empty()
    assert kept.exits.empty()


def test_a_database_that_is_away_at_first_is_waited_for(kept: Kept) -> None:
    kept.lease.away = True
    holder = Holder()
    kept.keeper.start(holder)
    kept.lease.away = False
    told = holder.told.get(timeout=60)
    assert told.startswith("gained")


def test_when_the_database_stays_away_everything_stops_and_a_new_identity_begins(kept: Kept) -> None:
    holder = Holder()
    kept.keeper.start(holder)
    holder.hears("gained 0")
    kept.lease.away = True
    holder.hears("kill", "lost")
    kept.lease.away = False
    assert holder.told.get(timeout=60) != "gained 0"
    assert kept.exits.empty()
    assert len(set(kept.lease.registered)) == 2


def test_a_registration_whose_reply_was_lost_is_repeated_under_another_identity(kept: Kept) -> None:
    kept.lease.replies = False
    holder = Holder()
    kept.keeper.start(holder)
    assert kept.lease.failures.acquire(timeout=60)
    kept.lease.replies = True
    told = holder.told.get(timeout=60)
    assert told == f"gained {kept.lease.registered[-1]}"
    assert len(set(kept.lease.registered)) == len(kept.lease.registered) >= 2


@pytest.mark.parametrize("kept", [8.0], indirect=True)
def test_a_short_absence_costs_nothing(kept: Kept) -> None:
    holder = Holder()
    kept.keeper.start(holder)
    holder.hears("gained 0")
    kept.lease.away = True
    assert kept.lease.failures.acquire(timeout=60)
    kept.lease.away = False
    assert kept.lease.renewals.acquire(timeout=60)
    assert holder.told.empty()


def test_a_worker_that_does_not_let_go_is_ended(kept: Kept) -> None:
    holder = Holder(lets_go=False)
    kept.keeper.start(holder)
    holder.hears("gained 0")
    kept.lease.away = True
    holder.hears("kill", "lost", "kill")
    assert kept.exits.get(timeout=60) == EXIT_CODE


def test_a_worker_that_was_declared_lost_is_ended(kept: Kept) -> None:
    holder = Holder()
    kept.keeper.start(holder)
    holder.hears("gained 0")
    kept.lease.taken = True
    holder.hears("kill")
    assert kept.exits.get(timeout=60) == EXIT_CODE


def test_a_process_that_stood_still_is_ended_before_it_asks_anybody(kept: Kept) -> None:
    holder = Holder()
    kept.keeper.start(holder)
    holder.hears("gained 0")
    assert kept.lease.renewals.acquire(timeout=60)
    kept.offset[0] += 60.0
    holder.hears("kill")
    assert kept.exits.get(timeout=60) == EXIT_CODE


def test_a_keeper_that_never_began_can_be_stopped(kept: Kept) -> None:
    kept.keeper.stop()


def test_a_failure_of_the_thread_itself_ends_the_process(kept: Kept) -> None:
    class Broken(Holder):
        def gained(self, worker_id: str) -> None:
            raise ZeroDivisionError

    holder = Broken()
    kept.keeper.start(holder)
    holder.hears("kill")
    assert kept.exits.get(timeout=60) == EXIT_CODE


def test_failures_in_a_row_are_told_less_and_less_often_and_another_one_at_once() -> None:
    failures, away, slow = Failures(), OSError("away"), OSError("slow")
    told = [number for number in range(1, 21) if failures.notable(away)]
    assert told == [1, 2, 4, 8, 16]
    assert failures.notable(slow)
    assert not failures.notable(slow)
    assert failures.notable(away)
