"""Timers of waits: the earliest is always known, and those of requests that have left are swept out."""

from __future__ import annotations

from random import Random

from broker.policy.admission.book import SWEEP_ABOVE
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import Queued, Tuning
from tests.support.scheduling import DASHBOARD, ask, limits, only, shared

FAR = 1e9


def crowd(random: Random, count: int) -> tuple[Scheduler, dict[str, float]]:
    """A core on whose only seat so many wait, for times that differ, and until when each of them does."""
    pools = {DASHBOARD: limits(queue=10_000, tenant_queue=10_000)}
    core = shared(1, pools, tuning=Tuning(hopeless_every=FAR))
    core.offer(ask("running", deadline=FAR), 0.0)
    until: dict[str, float] = {}
    for number in range(count):
        queued = only(core.offer(ask(f"w{number}", deadline=random.uniform(10.0, 1000.0)), 0.0))
        assert isinstance(queued, Queued)
        until[queued.id] = queued.until
        if random.random() < 0.9 and number > 10:
            gone = random.choice(list(until))
            del until[gone]
            core.cancel(gone, 0.0)
    return core, until


def test_the_earliest_end_of_a_wait_is_known_however_many_have_left() -> None:
    core, until = crowd(Random(4), 3 * SWEEP_ABOVE)
    now = 0.0
    while until:
        first = min(until, key=lambda name: until[name])
        assert core.next_wakeup() == until[first] >= now
        now = until.pop(first)
        assert [decision.id for decision in core.tick(now)] == [first]
    assert core.next_wakeup() is None


def test_what_is_kept_for_those_who_have_left_is_bounded() -> None:
    core, until = crowd(Random(5), 3 * SWEEP_ABOVE)
    kept = core._book._timeouts  # a leak does not show outside
    assert len(until) < SWEEP_ABOVE / 2
    assert len(kept) <= SWEEP_ABOVE + 2 * (len(until) + 1) + 1


def test_timers_are_not_swept_while_most_of_them_are_waited_for() -> None:
    core, _ = crowd(Random(6), 10)
    kept = core._book._timeouts  # that the list is the same one shows what was done to it
    for number in range(500):
        core.offer(ask(f"more{number}", deadline=500.0 + number), 0.0)
    assert core._book._timeouts is kept
