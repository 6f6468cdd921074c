"""Where tenants wait when there are too many for a queue each."""

from __future__ import annotations

from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.shard import EXACT_TENANTS, HAND, QUEUES, hand
from broker.policy.admission.values import Outcome, Queued
from tests.support.scheduling import DASHBOARD, admitted_ids, ask, limits, shared, takes

FAR = 1e9


def test_a_hand_is_dealt_without_repetition_and_always_the_same() -> None:
    for number in range(200):
        dealt = hand(f"tenant-{number}")
        assert len(set(dealt)) == HAND == 6
        assert dealt == hand(f"tenant-{number}")
    assert hand("tenant-1") != hand("tenant-2")


def test_hands_use_every_queue_about_equally() -> None:
    counts = dict.fromkeys((f"shared/{number}" for number in range(QUEUES)), 0)
    for number in range(4000):
        for name in hand(f"tenant-{number}"):
            counts[name] += 1
    mean = 4000 * HAND / QUEUES
    assert 0.7 * mean < min(counts.values()) <= max(counts.values()) < 1.3 * mean


def crowded() -> Scheduler:
    core = shared(1, {DASHBOARD: limits(10_000, queue=50_000)})
    core.offer(ask("running", "first", FAR, takes(1.0)), 0.0)
    for number in range(EXACT_TENANTS):
        core.offer(ask(f"exact/{number}", f"exact/{number}", FAR, takes(1.0)), 0.0)
    return core


def test_beyond_so_many_tenants_newcomers_share_queues() -> None:
    core = crowded()
    for number in range(300):
        assert isinstance(core.offer(ask(f"n{number}", f"new/{number}", FAR, takes(1.0)), 0.0)[0], Queued)
    tenants = {tenant.tenant for tenant in core.state(0.0)[0].tenants}
    shared_queues = {name for name in tenants if name.startswith("shared/")}
    assert len(tenants - shared_queues) == EXACT_TENANTS + 1
    assert 64 < len(shared_queues) <= QUEUES
    assert core.loads()[0].queue_length == EXACT_TENANTS + 300


def test_a_tenant_that_waits_in_a_queue_of_its_own_stays_there() -> None:
    core = crowded()
    core.offer(ask("again", "exact/7", FAR, takes(1.0)), 0.0)
    (state,) = [t for t in core.state(0.0)[0].tenants if t.tenant == "exact/7"]
    assert state.queue_length == 2


def test_a_newcomer_joins_the_queue_of_its_hand_with_least_work() -> None:
    core = crowded()
    for number in range(HAND):
        core.offer(ask(f"n{number}", "new", FAR, takes(1.0)), 0.0)
    lengths = {t.tenant: t.queue_length for t in core.state(0.0)[0].tenants}
    assert [lengths[name] for name in hand("new")] == [1] * HAND


def test_newcomers_wait_no_longer_than_one_turn_of_each_and_everybody_is_served() -> None:
    core = crowded()
    core.offer(ask("late", "new", FAR, takes(1.0)), 0.0)
    running, order, now = "running", [], 0.0
    while core.loads()[0].queue_length:
        now += 1.0
        (running,) = admitted_ids(core.finish(running, Outcome.SUCCESS, 1.0, now))
        order.append(running)
    assert len(order) == len(set(order)) == EXACT_TENANTS + 1
    core.finish(running, Outcome.SUCCESS, 1.0, now)
    assert core.offer(ask("own", "new", FAR, takes(1.0)), now)
    assert "new" in {t.tenant for t in core.state(now)[0].tenants}
