"""The order inside a tenant: criticality, attempts, the latest start, arrival."""

from __future__ import annotations

import math

import pytest

from broker.domain.principal import Criticality
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import AdmissionRequest, Quantiles
from tests.support.scheduling import DASHBOARD, ask, drain_order, limits, offer_all, shared, takes

FAR = 1e6


def order(*asked: AdmissionRequest) -> str:
    core: Scheduler = shared(1, {DASHBOARD: limits()})
    core.offer(ask("0", "t", FAR, takes(1.0)), 0.0)
    offer_all(core, list(asked))
    return "".join(drain_order(core, ["0"], 0.5))


def test_more_critical_requests_go_first() -> None:
    levels = dict(zip("abcd", Criticality, strict=True))
    assert (
        order(*(ask(name, "t", FAR, takes(1.0), criticality=level) for name, level in levels.items()))
        == "dcba"
    )


def test_later_attempts_go_behind_first_ones_of_the_same_criticality() -> None:
    attempts = {"a": 3, "b": 0, "c": 2, "d": 1, "e": 0}
    assert order(*(ask(name, "t", FAR, takes(1.0), attempt=n) for name, n in attempts.items())) == "bedca"


def test_later_attempts_go_before_what_is_less_critical() -> None:
    low = ask("a", "t", FAR, takes(1.0), criticality=Criticality.SHEDDABLE_PLUS)
    assert order(low, ask("b", "t", FAR, takes(1.0), attempt=9)) == "ba"


def test_attempts_are_told_apart_up_to_a_number() -> None:
    attempts = {"a": 9, "b": 4, "c": 3, "d": 2}
    assert order(*(ask(name, "t", FAR, takes(1.0), attempt=n) for name, n in attempts.items())) == "dabc"


def test_who_has_less_time_goes_first() -> None:
    deadlines = {"a": math.inf, "b": 900.0, "c": 700.0, "d": 800.0}
    assert order(*(ask(name, "t", at, takes(1.0)) for name, at in deadlines.items())) == "cdba"


def test_the_work_itself_counts_against_the_time() -> None:
    works = {"a": 1.0, "b": 400.0, "c": 200.0}
    assert order(*(ask(name, "t", 9000.0, takes(work)) for name, work in works.items())) == "bca"


def test_who_knows_little_of_its_work_goes_not_before_others() -> None:
    works = {"a": takes(200.0), "b": Quantiles(20.0, 200.0, 2000.0), "c": Quantiles(10.0, 201.0, 202.0)}
    assert order(*(ask(name, "t", 9000.0, work) for name, work in works.items())) == "cab"


@pytest.mark.parametrize("deadline", [900.0, math.inf])
def test_equals_are_served_as_they_came(deadline: float) -> None:
    assert order(*(ask(name, "t", deadline, takes(1.0)) for name in "cab")) == "cab"
