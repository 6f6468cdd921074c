"""The limit of a fleet: fixed, the wish of one, the pooled evidence of several, and who may try more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.fleet import Report
from broker.policy.fleet_limit import bounds, extra, pooled, propose, wants_probe
from tests.support.fleet import member


def adaptive(name: str, running: int, progress: float, wished: int = 32) -> Report:
    return member(name, running, running=running, progress=progress, wished=wished, low=2, high=64)


def test_a_fixed_limit_stays() -> None:
    slow = [member("a", running=16, progress=0.1), member("b", running=16, progress=0.1)]
    assert propose(32.0, slow, probing=True) == 32.0


def test_one_member_is_its_own_judge() -> None:
    assert propose(32.0, [adaptive("a", 10, 0.2, wished=11)], probing=False) == 11.0
    assert propose(32.0, [adaptive("a", 10, 0.2, wished=999)], probing=False) == 64.0


def test_evidence_weighs_by_what_runs() -> None:
    running, progress = pooled([adaptive("a", 30, 0.5), adaptive("b", 10, 0.9)])
    assert (running, round(progress, 9)) == (40, 0.6)
    assert pooled([adaptive("a", 0, 0.1)]) == (0, 1.0)


def test_a_slow_backend_gets_less_step_by_step_down_to_what_ran_at_full_speed() -> None:
    limit, seen = 32.0, []
    for _ in range(60):
        running = int(limit)
        half = [adaptive("a", running // 2, 0.5), adaptive("b", running - running // 2, 0.5)]
        limit = propose(limit, half, probing=False)
        seen.append(limit)
    assert seen[0] == pytest.approx(32 + 0.2 * (1.05 * 32 * 0.5 - 32))
    assert seen == sorted(seen, reverse=True)
    assert limit == 2.0


def test_only_the_holder_of_the_token_lets_it_grow_and_only_when_all_is_used_and_fast() -> None:
    full = [adaptive("a", 16, 1.0), adaptive("b", 15, 1.0)]
    assert propose(32.0, full, probing=False) == 32.0
    assert propose(32.0, full, probing=True) == pytest.approx(32.74)
    assert propose(64.0, full, probing=True) == 64.0
    assert propose(32.0, [adaptive("a", 16, 1.0), adaptive("b", 8, 1.0)], probing=True) == 32.0
    assert propose(32.0, [adaptive("a", 16, 0.9), adaptive("b", 16, 0.9)], probing=True) == 32.0


def test_whoever_uses_all_that_it_has_asks_for_the_token() -> None:
    full = [adaptive("a", 24, 1.0), adaptive("b", 6, 1.0)]
    assert wants_probe(32.0, full, full[0], seats=25)
    assert not wants_probe(32.0, full, full[1], seats=8)
    assert not wants_probe(64.0, full, full[0], seats=25)
    assert not wants_probe(32.0, full[:1], full[0], seats=25)
    assert [extra(limit) for limit in (2, 50, 51, 400)] == [1, 1, 2, 8]


def test_the_smaller_bound_holds_while_configurations_differ() -> None:
    old, new = member("a", low=32, high=32), member("b", low=16, high=16)
    assert bounds([old, new]) == (16, 16)
    assert propose(32.0, [old, new], probing=False) == 16.0


@given(
    st.floats(1, 400),
    st.lists(st.tuples(st.integers(0, 64), st.floats(0.01, 1.0)), min_size=1, max_size=20),
    st.booleans(),
)
def test_it_never_leaves_its_bounds(limit: float, runs: list[tuple[int, float]], probing: bool) -> None:
    fleet = [adaptive(f"b{i}", *run) for i, run in enumerate(runs)]
    assert 2.0 <= propose(limit, fleet, probing=probing) <= 64.0
