"""The stretch controller in a closed loop: capacity that halves and comes back, predictions that are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import pytest

from broker.domain.pool import BackendLimits, LimitMode
from broker.policy.admission.limit import StaticLimit
from broker.policy.admission.stretch import StretchLimit
from broker.policy.admission.values import Signal
from tests.support.shared_database import Load, Phase, SharedDatabase

SEEDS = range(3)


def controller(nominal: int = 32, mode: LimitMode = LimitMode.ADAPTIVE) -> StretchLimit:
    return StretchLimit(BackendLimits(nominal, max(2, nominal // 10), 400, mode=mode))


def steps(slots: float = 32.0, seconds: float = 240.0) -> Sequence[Phase]:
    """All, half, all."""
    return [
        Phase(capacity, i * seconds, (i + 1) * seconds)
        for i, capacity in enumerate((slots, slots / 2, slots))
    ]


def runs(load: Load, nominal: int = 32) -> list[Sequence[Phase]]:
    return [SharedDatabase(controller(nominal), load, seed).run(steps()) for seed in SEEDS]


def test_the_limit_follows_the_capacity() -> None:
    every = runs(Load())
    for before, half, after in every:
        assert min(before.goodput, half.goodput, after.goodput) >= 0.95
        assert max(before.deviation, half.deviation, after.deviation) <= 0.08
        assert half.settled <= 5.0
        assert after.settled <= 30.0
    assert median(half.settled for _, half, _ in every) <= 4.5


def test_a_fixed_limit_does_not() -> None:
    _, half, _ = SharedDatabase(StaticLimit(32), Load(), 1).run(steps())
    assert half.goodput <= 0.8


@pytest.mark.parametrize("nominal", [8, 100])
def test_a_wrong_nominal_limit_is_found_out(nominal: int) -> None:
    for before, half, after in runs(Load(), nominal):
        assert before.settled <= 60.0
        assert min(before.goodput, half.goodput, after.goodput) >= 0.94


def test_ten_times_the_load_changes_nothing() -> None:
    for before, half, after in runs(Load(factor=10.0)):
        assert min(before.goodput, half.goodput, after.goodput) >= 0.95
        assert half.settled <= 5.0


@pytest.mark.parametrize("factor", [0.5, 0.7])
def test_a_backend_with_room_keeps_its_limit(factor: float) -> None:
    for seed in SEEDS:
        policy = controller()
        (adaptive,) = SharedDatabase(policy, Load(factor=factor), seed).run([Phase(32.0, 0.0, 240.0)])
        (fixed,) = SharedDatabase(StaticLimit(32), Load(factor=factor), seed).run([Phase(32.0, 0.0, 240.0)])
        assert adaptive.mean >= 29
        assert adaptive.goodput >= fixed.goodput - 0.01


@pytest.mark.parametrize("bias", [0.7, 1.3])
def test_predictions_that_are_wrong_by_a_third(bias: float) -> None:
    for before, half, after in runs(Load(bias=bias)):
        assert median((before.goodput, half.goodput, after.goodput)) >= 0.91
        assert min(before.goodput, half.goodput, after.goodput) >= 0.88


def test_predictions_that_scatter_widely() -> None:
    for phases in runs(Load(error=1.0)):
        assert median(phase.goodput for phase in phases) >= 0.85
        assert min(phase.goodput for phase in phases) >= 0.8


def test_what_predictions_are_off_by_is_found_out() -> None:
    for bias, stretch, within in ((0.7, -0.36, 0.1), (1.0, 0.0, 0.05), (1.3, 0.26, 0.1)):
        policy = controller()
        SharedDatabase(policy, Load(bias=bias), 1).run(steps())
        assert policy.bias == pytest.approx(stretch, abs=within)


def test_predictions_that_are_chosen_for_being_low_do_not_sink_the_limit() -> None:
    """Scattered around the work, those that are admitted are the ones that are too low."""
    for phases in runs(Load(calibrated=False)):
        assert median(phase.goodput for phase in phases) >= 0.9
        assert min(phase.goodput for phase in phases) >= 0.6


def test_the_limit_is_a_whole_number_and_used_up() -> None:
    """In flight against a fractional limit: 32 of 32.7 would be neither full nor have room for one more."""
    policy = controller()
    database = SharedDatabase(policy, Load(), 2)
    seen: list[tuple[int, int, int]] = []
    original = policy.tick

    def tick(waiting: bool, now: float) -> None:
        seen.append((policy.limit, len(database.running), len(database.queue)))
        original(waiting, now)

    policy.tick = tick  # type: ignore[method-assign] # to look at every decision
    database.run([Phase(32.0, 0.0, 120.0)])
    assert all(isinstance(limit, int) for limit, _, _ in seen)
    assert all(running >= limit for limit, running, waiting in seen if waiting)
    assert max(waiting for _, _, waiting in seen) < 200


def test_a_known_recovery_is_believed_and_looked_at_again() -> None:
    policy = controller()
    database = SharedDatabase(policy, Load(), 3)
    before, half, after = steps()
    database.run([before, half])
    assert policy.limit < 24
    policy.signal(Signal.RECOVERED, database.now)
    assert policy.limit >= 28
    database.run([after])
    assert after.settled == 0.0
    again = controller()
    database = SharedDatabase(again, Load(), 3)
    before, half, still = steps()
    database.run([before, half])
    again.signal(Signal.RECOVERED, database.now)
    still.capacity = 16.0
    database.run([still])
    assert still.settled <= 8.0


def test_a_shadow_wishes_what_a_controller_would_do() -> None:
    policy = controller(mode=LimitMode.SHADOW)
    database = SharedDatabase(policy, Load(factor=10.0), 1)
    (phase,) = database.run([Phase(16.0, 0.0, 120.0)])
    assert policy.limit == 32
    assert phase.mean == 32
    assert policy.wished < 24
