"""How fresh a held answer is: the laws that hold for every age, look, limit and draw."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from broker.domain.answer import (
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    DegradationReason,
    Exactness,
    Guarantee,
    LadderStep,
    PartSource,
    Rung,
    Table,
    Verdict,
)
from broker.domain.held import Held, Reach
from broker.domain.terms import AnswerPolicy
from broker.domain.values import ResultFormat
from broker.policy import freshness as fresh
from broker.policy.freshness import Ages, Freshness, Looked, Standing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORDER = list(Standing)
UNTRACKED, CHANGED = Looked(), Looked(tracked=True)
TABLE = Table((), 0, ResultFormat.COLUMNS, b"")

seconds = st.floats(0, 200_000, allow_nan=False)
limits = st.none() | st.just(0.0) | seconds
ages = st.builds(Ages, soft=seconds, hard=seconds, max_staleness=limits)
looks = st.builds(Looked, tracked=st.booleans(), unchanged=st.none() | seconds)
policies = st.builds(AnswerPolicy, max_staleness=limits)
draws = st.floats(0, 1)


def held(age: float = 0.0, *, lag: float | None = None, guarantee: Guarantee = Guarantee.SNAPSHOT) -> Held:
    as_of = NOW - timedelta(seconds=age)
    part = AnswerPart(PartSource.LIVE, "primary", as_of, replica_lag=lag)
    status = AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, as_of, guarantee=guarantee, parts=(part,))
    return Held("key", TABLE, status, Reach("orders"), "moment", 0.1)


answers = st.builds(held, seconds, lag=st.none() | st.floats(0, 10), guarantee=st.sampled_from(Guarantee))


def judge(
    answer: Held,
    look: Looked = UNTRACKED,
    limit: Ages | None = None,
    most: float | None = None,
    draw: float = 1.0,
) -> Freshness:
    policy = AnswerPolicy(max_staleness=most)
    return fresh.freshness(answer, look, limit or Ages(10, 100), policy, NOW, draw)


@given(seconds, looks, ages, policies, draws, limits)
def test_nothing_is_given_out_beyond_what_is_allowed(
    age: float, look: Looked, limit: Ages, policy: AnswerPolicy, draw: float, lag: float | None
) -> None:
    found = fresh.freshness(held(age, lag=lag), look, limit, policy, NOW, draw)
    if found.standing is Standing.EXPIRED:
        return
    most = policy.max_staleness if policy.max_staleness is not None else limit.max_staleness
    assert most is None or (most > 0 and found.staleness <= most)
    assert found.staleness <= limit.hard
    if found.guarantee is Guarantee.BOUNDED_STALENESS:
        assert found.bound is not None
        assert found.staleness <= found.bound


@given(seconds, seconds, looks, ages, policies, draws)
def test_an_older_answer_is_never_better(
    one: float, other: float, look: Looked, limit: Ages, policy: AnswerPolicy, draw: float
) -> None:
    younger, older = (
        fresh.freshness(held(age), look, limit, policy, NOW, draw) for age in sorted((one, other))
    )
    assert ORDER.index(younger.standing) <= ORDER.index(older.standing)
    assert older.refresh or not younger.refresh or not older.usable


@given(seconds, ages, policies, draws, limits)
def test_what_is_not_known_is_not_unchanged(
    age: float, limit: Ages, policy: AnswerPolicy, draw: float, unseen: float | None
) -> None:
    answer = held(age)
    unknown = fresh.freshness(answer, CHANGED, limit, policy, NOW, draw)
    assert unknown.standing is not Standing.FRESH
    untracked = fresh.freshness(answer, Looked(unchanged=unseen), limit, policy, NOW, draw)
    assert untracked == fresh.freshness(answer, UNTRACKED, limit, policy, NOW, draw)
    if untracked.standing is Standing.FRESH:
        assert age <= limit.soft + 1e-6
        assert untracked.as_of == answer.as_of


def test_an_unchanged_answer_is_as_fresh_as_the_last_look() -> None:
    found = judge(held(50), Looked(tracked=True, unchanged=0.25))
    assert found.standing is Standing.FRESH
    assert (found.kind, found.guarantee, found.bound) == (
        AnswerKind.CACHE_FRESH,
        Guarantee.BOUNDED_STALENESS,
        0.25,
    )
    assert (found.as_of, found.staleness) == (NOW - timedelta(seconds=0.25), 0.25)
    assert not found.refresh


def test_what_is_told_of_a_look_is_not_rounded_beyond_the_promise() -> None:
    found = judge(held(50), Looked(tracked=True, unchanged=6e-7))
    assert (found.staleness, found.bound) == (6e-7, 6e-7)


def test_what_was_read_after_the_look_keeps_its_instant() -> None:
    found = judge(held(1), Looked(tracked=True, unchanged=2.0))
    assert (found.as_of, found.staleness, found.bound) == (NOW - timedelta(seconds=1), 1.0, 2.0)


def test_a_look_that_is_too_old_for_the_caller_leaves_it_to_age() -> None:
    assert judge(held(50), Looked(tracked=True, unchanged=2.0), most=1.0).standing is Standing.EXPIRED
    assert judge(held(0.5), Looked(tracked=True, unchanged=2.0), most=1.0).kind is AnswerKind.CACHE_FRESH


def test_by_age_alone() -> None:
    found = judge(held(5))
    assert (found.standing, found.guarantee, found.bound) == (
        Standing.FRESH,
        Guarantee.BOUNDED_STALENESS,
        10,
    )
    stale = judge(held(50))
    assert (stale.standing, stale.degraded, stale.level, stale.reasons) == (Standing.STALE, True, 2, ())
    assert stale.kind is AnswerKind.CACHE_STALE
    assert judge(held(101)).standing is Standing.EXPIRED


def test_a_changed_answer_within_its_soft_age_is_read_again_behind() -> None:
    found = judge(held(5), CHANGED)
    assert (found.standing, found.kind, found.degraded, found.level) == (
        Standing.SOFT,
        AnswerKind.CACHE_STALE,
        False,
        1,
    )
    assert found.reasons == (DegradationReason.REVALIDATING,)
    assert found.refresh


def test_the_caller_goes_before_the_dataset() -> None:
    strict = Ages(10, 100, max_staleness=1)
    assert judge(held(5), limit=strict).standing is Standing.EXPIRED
    assert judge(held(5), limit=strict, most=60).standing is Standing.FRESH
    assert judge(held(0), limit=strict, most=0).standing is Standing.EXPIRED


def test_a_replica_adds_its_lag_and_is_never_known_to_be_unchanged() -> None:
    found = judge(held(1, lag=8), Looked(tracked=True, unchanged=0.1))
    assert (found.standing, found.staleness) == (Standing.SOFT, 9)
    assert judge(held(1, lag=10)).standing is Standing.STALE


def test_a_promise_is_never_more_than_was_promised_when_it_was_read() -> None:
    late = replace(
        held(5), status=replace(held(5, guarantee=Guarantee.LATENESS_BOUND).status, guarantee_bound=60.0)
    )
    tracked = judge(late, Looked(tracked=True, unchanged=0.1))
    assert (tracked.guarantee, tracked.bound) == (Guarantee.LATENESS_BOUND, 60.0)
    assert judge(late).guarantee is Guarantee.NONE
    assert judge(held(5, guarantee=Guarantee.NONE)).guarantee is Guarantee.NONE


def test_early_refresh_grows_likelier_with_age_and_cost() -> None:
    draws = [(i + 0.5) / 1000 for i in range(1000)]

    def share(age: float, cost: float) -> float:
        return sum(fresh.early_refresh(age, 10, cost, draw) for draw in draws) / 1000

    assert share(10, 0.0) == 1.0
    assert share(9.9, 0.0) == 0.0
    assert share(5, 0.1) == 0.0
    assert 0.3 < share(9.9, 0.1) < 0.45
    assert share(9, 1) > share(8, 1) > 0.1
    found = judge(held(9.9), draw=0.01)
    assert (found.standing, found.refresh, found.reasons) == (Standing.FRESH, True, ())


def test_the_status_of_a_held_answer_says_what_it_is_now() -> None:
    answer = held(50)
    first = replace(
        answer.status,
        ladder=(LadderStep(Rung.LIVE, Verdict.ANSWERED),),
        pool="dashboard",
        queue_duration=2.0,
        request_id="r1",
        answer_version="v1",
    )
    kept = fresh.kept(first)
    assert (kept.ladder, kept.pool, kept.queue_duration, kept.request_id) == ((), "", 0.0, "")
    (part,) = kept.parts
    assert (part.source, part.source_name, part.source_version, part.as_of) == (
        PartSource.CACHE,
        "live:primary",
        "v1",
        answer.as_of,
    )
    assert fresh.kept(kept) == kept
    again = replace(answer, status=kept)
    status = fresh.given(again, judge(again))
    assert status.kind is AnswerKind.CACHE_STALE
    assert status.ladder == (LadderStep(Rung.CACHE_STALE, Verdict.ANSWERED),)
    assert (status.staleness, status.degraded, status.degradation_level) == (50.0, True, 2)
    unchanged = judge(again, Looked(tracked=True, unchanged=0.1))
    status = fresh.given(again, unchanged)
    assert (status.kind, status.ladder[0].rung) == (AnswerKind.CACHE_FRESH, Rung.CACHE_FRESH)
    assert status.parts == kept.parts
    assert unchanged.usable


@given(
    st.builds(held, seconds, lag=st.none() | st.floats(0, 10), guarantee=st.sampled_from(Guarantee)),
    looks,
    ages,
    policies,
    draws,
    draws,
    st.floats(0, 0.999),
)
def test_a_verdict_stands_for_as_long_as_it_says_whatever_is_drawn(
    answer: Held, look: Looked, limit: Ages, policy: AnswerPolicy, draw: float, other: float, share: float
) -> None:
    first = fresh.freshness(answer, look, limit, policy, NOW, draw)
    if first.standing is not Standing.FRESH or not first.lasts:
        assert first.lasts == 0.0 or first.standing is Standing.FRESH
        return
    passed = round(first.lasts * share, 3)
    if passed >= first.lasts:
        return
    seen = None if look.unchanged is None else look.unchanged + passed
    later = NOW + timedelta(seconds=passed)
    then = fresh.freshness(answer, replace(look, unchanged=seen), limit, policy, later, other)
    assert (then.standing, then.kind, then.guarantee, then.refresh) == (
        Standing.FRESH, first.kind, first.guarantee, False,
    )  # fmt: skip
    assert abs(then.as_of - first.as_of) <= timedelta(microseconds=2)
    assert abs(then.staleness - first.staleness - passed) < 1e-3
    grown = passed if first.growing else 0.0
    assert (first.bound is None) == (then.bound is None)
    assert (
        abs((then.bound or 0.0) - (first.bound or 0.0) - (grown if first.bound is not None else 0.0)) < 1e-3
    )
