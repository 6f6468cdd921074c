"""When the broker protects itself."""

from __future__ import annotations

import pytest

from broker.domain.principal import Criticality
from broker.policy.guard import Factor, Mark, Marks, Posture, SelfDefence, Step

CALM = Posture()


def lagging(defence: SelfDefence, lag: float, since: float, until: float) -> list[tuple[float, Posture]]:
    """Ten samples a second of the same lag."""
    steps = round((until - since) * 10)
    instants = [since + i / 10 for i in range(steps)]
    return [(at, defence.observe(lag, None, at)) for at in instants]


def test_a_step_is_taken_late_and_taken_back_late() -> None:
    step = Step(Mark(10.0, 5.0, rise=1.0, fall=2.0))
    told = [
        (0.0, 12.0),
        (0.5, 9.0),
        (1.0, 12.0),
        (1.9, 10.0),
        (2.0, 10.0),
        (3.0, 6.0),
        (4.0, 4.0),
        (6.0, 4.9),
    ]
    assert [step.observe(value, at) for at, value in told] == [
        False, False, False, False, True, True, True, False,
    ]  # fmt: skip


def test_one_slow_moment_changes_nothing() -> None:
    defence = SelfDefence()
    lagging(defence, 0.001, 0.0, 3.0)
    assert defence.observe(0.5, 0.1, 3.0) == CALM
    assert {posture for _, posture in lagging(defence, 0.001, 3.1, 8.0)} == {CALM}


def test_a_slow_loop_keeps_out_who_can_be_shed() -> None:
    defence = SelfDefence()
    postures = lagging(defence, 0.06, 0.0, 2.0)
    assert [posture.admits for at, posture in postures if at < 1.0] == [None] * 10
    assert postures[-1][1] == Posture(Criticality.CRITICAL, Factor.LOOP_LAG, 0.06, 0.05)
    after = lagging(defence, 0.001, 2.0, 6.0)
    assert after[0][1].admits is Criticality.CRITICAL
    assert after[-1][1] == CALM


def test_a_stuck_loop_keeps_out_all_but_the_most_important_and_is_unhealthy() -> None:
    defence = SelfDefence()
    (*_, (_, posture)) = lagging(defence, 0.3, 0.0, 3.0)
    assert posture == Posture(Criticality.CRITICAL_PLUS, Factor.LOOP_LAG, 0.3, 0.25, healthy=False)
    calmer = lagging(defence, 0.15, 3.0, 9.0)
    assert calmer[-1][1].healthy is False, "between the marks nothing changes"
    calmer = lagging(defence, 0.06, 9.0, 15.0)
    assert calmer[-1][1] == Posture(Criticality.CRITICAL, Factor.LOOP_LAG, 0.06, 0.05)


@pytest.mark.parametrize(
    ("share", "posture"),
    [
        (0.79, CALM),
        (0.80, Posture(degrade=True)),
        (0.91, Posture(Criticality.CRITICAL_PLUS, Factor.MEMORY, 0.91, 0.9, degrade=True)),
        (0.96, Posture(Criticality.CRITICAL_PLUS, Factor.MEMORY, 0.96, 0.9, degrade=True, cut=True)),
    ],
)
def test_memory_is_saved_step_by_step(share: float, posture: Posture) -> None:
    defence = SelfDefence()
    assert defence.observe(0.0, share, 0.0) == posture


def test_machines_shared_with_others_may_allow_more_lag() -> None:
    defence = SelfDefence(Marks.of_lag(0.2))
    assert {posture for _, posture in lagging(defence, 0.19, 0.0, 4.0)} == {CALM}
    assert lagging(defence, 0.21, 4.0, 8.0)[-1][1].admits is Criticality.CRITICAL
    assert lagging(defence, 1.0, 8.0, 16.0)[-1][1].admits is Criticality.CRITICAL_PLUS
    assert Marks.of_lag(Marks().slow.enter) == Marks()


def test_memory_that_is_free_again_is_used_again_after_a_while() -> None:
    defence = SelfDefence()
    assert defence.observe(0.0, 0.92, 0.0).admits is Criticality.CRITICAL_PLUS
    assert defence.observe(0.0, 0.88, 1.0).admits is Criticality.CRITICAL_PLUS, "not yet below the lower mark"
    assert defence.observe(0.0, 0.70, 2.0).admits is Criticality.CRITICAL_PLUS, "not yet for long"
    assert defence.observe(0.0, None, 3.0) == CALM, "the last reading counts until there is another"


def test_memory_outranks_the_loop_in_what_callers_are_told() -> None:
    defence = SelfDefence()
    lagging(defence, 0.3, 0.0, 4.0)
    posture = defence.observe(0.3, 0.93, 4.0)
    assert (posture.factor, posture.admits, posture.healthy) == (
        Factor.MEMORY,
        Criticality.CRITICAL_PLUS,
        False,
    )
