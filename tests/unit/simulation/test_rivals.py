"""Rival cores and limits do what the schemes that they stand for are known for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from broker.domain.pool import BackendLimits, PoolLimits, PoolName
from broker.policy.admission.events import Configuration, RecordedBackend
from broker.policy.admission.values import (
    AdmissionCore,
    AdmissionRequest,
    Admitted,
    Decision,
    Outcome,
    Queued,
    RefusalReason,
    Refused,
    Signal,
)
from broker.simulation.rivals.catalog import RIVALS

POOL = PoolName.DASHBOARD
BOTH = (PoolName.DASHBOARD, PoolName.JOB)


class Known:
    """A truth that is written down: work by id, slots from instants on."""

    def __init__(
        self, work: dict[str, float] | None = None, slots: Sequence[tuple[float, float]] = ((0.0, 2.0),)
    ) -> None:
        self._work = work or {}
        self._slots = slots

    def slots(self, backend: str, now: float) -> float:
        assert backend == "db"
        return [slots for at, slots in self._slots if at <= now][-1]

    def work(self, id: str) -> float:
        return self._work[id]


def configuration(seats: int = 2, queue: int = 3) -> Configuration:
    limits = PoolLimits(in_flight=1000, queue=queue, connections=1, workers=1)
    return Configuration(
        dict.fromkeys(BOTH, limits), seed=1, backends=(RecordedBackend("db", BOTH, BackendLimits(seats)),)
    )


def rival(name: str, seats: int = 2, queue: int = 3, truth: Known | None = None) -> AdmissionCore:
    return RIVALS[name](configuration(seats, queue), truth or Known())


def offer(core: AdmissionCore, id: str, at: float, timeout: float = 10.0, **more: object) -> Decision:
    request = AdmissionRequest(id, "t", POOL, at + timeout, **more)  # type: ignore[arg-type] # a request's own fields
    return core.offer(request, at)[0]


def ids(decisions: Sequence[Decision], kind: type[Decision]) -> list[str]:
    return [decision.id for decision in decisions if isinstance(decision, kind)]


def test_no_control_admits_everybody() -> None:
    core = rival("no_control")

    assert all(isinstance(offer(core, str(n), 0.0), Admitted) for n in range(500))
    assert core.loads()[0].seats_used == 500


def test_fifo_serves_in_order_of_arrival_and_refuses_when_its_queue_is_full() -> None:
    core = rival("fifo", seats=1, queue=1)  # of each of two pools
    first, *others = [offer(core, name, 0.0) for name in "abcd"]

    assert isinstance(first, Admitted)
    assert [type(other) for other in others] == [Queued, Queued, Refused]
    assert isinstance(others[-1], Refused)
    assert (others[-1].reason, others[-1].limiting_factor) == (RefusalReason.OVERLOADED, "queue")
    assert ids(core.finish("a", Outcome.SUCCESS, 1.0, 1.0), Admitted) == ["b"]
    assert core.cancel("c", 1.5) == ()
    assert core.finish("b", Outcome.SUCCESS, 1.0, 2.0) == ()


def test_fifo_starts_work_at_the_edge_of_its_deadline() -> None:
    core = rival("fifo", seats=1)
    offer(core, "a", 0.0)
    offer(core, "b", 0.0, timeout=5.0)

    assert core.next_wakeup() is None
    assert ids(core.finish("a", Outcome.SUCCESS, 4.9, 4.9), Admitted) == ["b"]


@pytest.mark.parametrize("scheme", ["fifo", "codel", "vegas", "clairvoyant"])
def test_seats_come_back_however_work_ends(scheme: str) -> None:
    core = rival(scheme, truth=Known(dict.fromkeys("abc", 1.0)))
    for name in "ab":
        assert isinstance(offer(core, name, 0.0), Admitted)
    with pytest.raises(ValueError, match="'a' is already"):
        offer(core, "a", 0.0)

    core.cancel("a", 1.0)
    core.finish("b", Outcome.DROPPED, 1.0, 1.0)
    core.cancel("unknown", 1.0)

    assert [load.seats_used for load in core.loads()] == [0, 0]
    assert isinstance(offer(core, "a", 1.0), Admitted)


def test_wide_requests_take_their_seats_and_one_wider_than_the_limit_runs_alone() -> None:
    core = rival("fifo", seats=3)

    assert isinstance(offer(core, "wide", 0.0, seats=2.0), Admitted)
    assert isinstance(offer(core, "wider", 0.0, seats=9.0), Queued)
    assert ids(core.finish("wide", Outcome.SUCCESS, 1.0, 1.0), Admitted) == ["wider"]
    assert core.backends()[0].seats_used == 9


def test_pools_of_one_backend_share_its_line() -> None:
    core = rival("fifo", seats=1)
    offer(core, "a", 0.0)
    queued = core.offer(AdmissionRequest("job", "t", PoolName.JOB, math.inf), 0.5)

    assert isinstance(queued[0], Queued)
    assert [(load.pool, load.seats_used, load.queue_length) for load in core.loads()] == [
        (PoolName.DASHBOARD, 1, 0), (PoolName.JOB, 0, 1),
    ]  # fmt: skip
    assert [state.oldest_wait for state in core.state(2.0)] == [0.0, 1.5]
    assert core.backends()[0].demand == ((PoolName.DASHBOARD, 1), (PoolName.JOB, 1))


def test_a_drained_rival_refuses_those_who_wait_and_all_who_come() -> None:
    core = rival("fifo", seats=1)
    for name in "ab":
        offer(core, name, 0.0)

    assert ids(core.drain(1.0), Refused) == ["b"]
    assert core.drain(1.0) == ()
    late = offer(core, "c", 1.0)
    assert isinstance(late, Refused)
    assert late.reason is RefusalReason.DRAINING
    assert core.finish("a", Outcome.SUCCESS, 1.0, 2.0) == ()


def test_the_control_plane_is_exempt() -> None:
    core = rival("fifo", seats=1)
    offer(core, "a", 0.0)

    assert isinstance(offer(core, "health", 0.0, exempt=True), Admitted)
    assert core.loads()[0].seats_used == 1
    assert core.finish("health", Outcome.SUCCESS, 0.1, 0.1) == ()


def test_a_signal_about_an_unknown_backend_is_an_error() -> None:
    core = rival("fifo")

    assert core.signal("db", Signal.RECOVERED, 0.0) == ()
    with pytest.raises(KeyError):
        core.signal("nowhere", Signal.RECOVERED, 0.0)


def test_codel_is_first_in_first_out_while_its_queue_comes_and_goes() -> None:
    core = rival("codel", seats=1, queue=100)
    for name in "abc":
        offer(core, name, 0.0)

    assert ids(core.finish("a", Outcome.SUCCESS, 1.0, 1.0), Admitted) == ["b"]


def test_codel_is_last_in_first_out_and_impatient_when_its_queue_stands() -> None:
    core = rival("codel", seats=1, queue=100)
    offer(core, "a", 0.0)
    for n in range(10):
        offer(core, f"w{n}", float(n))  # each allows 10 s: N is 5 s, M is 0.25 s

    assert core.next_wakeup() == 5.0
    gone = core.tick(5.0)
    assert ids(gone, Refused) == ["w0", "w1", "w2", "w3", "w4"]
    assert all(isinstance(each, Refused) and each.reason is RefusalReason.QUEUE_TIMEOUT for each in gone)
    offer(core, "newest", 9.1)
    assert ids(core.finish("a", Outcome.SUCCESS, 9.2, 9.2), Admitted) == ["newest"]


def test_codel_forgives_once_its_queue_was_empty() -> None:
    core = rival("codel", seats=1, queue=100)
    offer(core, "a", 0.0)
    offer(core, "b", 0.0)
    core.finish("a", Outcome.SUCCESS, 4.0, 4.0)
    offer(core, "c", 6.0)

    assert core.next_wakeup() == 11.0


def test_a_limiter_without_a_queue_refuses_at_its_limit() -> None:
    core = rival("aimd", seats=5)
    decisions = [offer(core, str(n), 0.0) for n in range(21)]

    assert [type(decision) for decision in decisions] == [Admitted] * 20 + [Refused]


def test_aimd_adds_one_and_takes_a_tenth() -> None:
    core = rival("aimd")
    for n in range(20):
        offer(core, str(n), 0.0)

    core.finish("19", Outcome.SUCCESS, 1.0, 1.0)
    assert core.backends()[0].limit == 21
    core.finish("18", Outcome.DROPPED, 1.0, 1.0)
    assert core.backends()[0].limit == 18
    core.finish("17", Outcome.SUCCESS, 5.1, 5.1)
    assert core.backends()[0].limit == 16
    core.finish("16", Outcome.IGNORED, 5.1, 5.1)
    core.finish("0", Outcome.SUCCESS, 1.0, 6.0)  # one seat was in use when it began
    assert core.backends()[0].limit == 16


def test_the_oracle_follows_the_capacity_within_a_tenth_of_a_second() -> None:
    core = rival("oracle", seats=9, truth=Known(slots=[(0.0, 32.0), (5.0, 16.0)]))

    core.tick(0.0)
    assert core.backends()[0].limit == 32
    wakeup = core.next_wakeup()
    assert wakeup == pytest.approx(0.1)
    core.tick(5.0)
    assert core.backends()[0].limit == 16


def test_the_clairvoyant_starts_the_least_slack_first_and_refuses_the_infeasible() -> None:
    core = rival("clairvoyant", truth=Known({"a": 1.0, "b": 1.0, "long": 8.0, "short": 1.0, "never": 11.0}))
    core.tick(0.0)
    for name in "ab":
        offer(core, name, 0.0)
    never = offer(core, "never", 0.0)

    assert isinstance(never, Refused)
    assert never.reason is RefusalReason.DEADLINE_TOO_SHORT
    assert isinstance(offer(core, "short", 0.0), Queued)
    assert isinstance(offer(core, "long", 0.0), Queued)
    assert ids(core.finish("a", Outcome.SUCCESS, 1.0, 1.0), Admitted) == ["long"]


def test_the_clairvoyant_refuses_at_the_last_instant_and_lets_a_feasible_one_pass() -> None:
    core = rival("clairvoyant", truth=Known({"a": 1.0, "b": 1.0, "long": 8.0, "short": 1.0}, [(0.0, 1.0)]))
    core.tick(0.0)
    offer(core, "a", 0.0)
    for name in ("long", "short"):
        offer(core, name, 0.0)

    gone = core.tick(10.0 - 8.0 * 1.02 + 1e-9)
    assert ids(gone, Refused) == ["long"]
    assert ids(core.finish("a", Outcome.SUCCESS, 3.0, 3.0), Admitted) == ["short"]


@pytest.mark.parametrize("scheme", sorted(RIVALS))
def test_every_rival_keeps_its_books(scheme: str) -> None:
    """Whatever is offered and ended in turn, who is admitted ends once and nothing is left."""
    core = rival(scheme, seats=4, queue=5, truth=Known({str(n): 0.5 + n % 3 for n in range(200)}))
    open_ids: dict[str, type[Decision]] = {}

    def take(decisions: Sequence[Decision]) -> None:
        for each in decisions:
            assert each.id in open_ids
            if isinstance(each, Refused):
                del open_ids[each.id]
            else:
                open_ids[each.id] = type(each)

    for n in range(200):
        now = n * 0.25
        open_ids[str(n)] = Queued
        take(core.offer(AdmissionRequest(str(n), "t", BOTH[n % 2], now + 5.0), now))
        wakeup = core.next_wakeup()
        if wakeup is not None and wakeup <= now + 0.1:
            take(core.tick(now + 0.1))
        running = [name for name, kind in open_ids.items() if kind is Admitted]
        if n % 2 and running:
            del open_ids[running[n % len(running)]]
            take(core.finish(running[n % len(running)], Outcome.SUCCESS, 0.5, now + 0.2))
        elif n % 7 == 0 and open_ids:
            gone = next(iter(open_ids))
            del open_ids[gone]
            take(core.cancel(gone, now + 0.2))
    for name in [name for name, kind in open_ids.items() if kind is Admitted]:
        del open_ids[name]
        take(core.finish(name, Outcome.SUCCESS, 0.5, 60.0))
    take(core.drain(61.0))
    for name in list(open_ids):
        del open_ids[name]
        take(core.finish(name, Outcome.SUCCESS, 0.5, 62.0))

    assert not open_ids
    assert all(load.seats_used == load.queue_length == 0 for load in core.loads())
