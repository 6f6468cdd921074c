"""Refusals that are not decided again."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.policy.admission.echo import LIFETIME, MOST, Echo
from broker.policy.admission.values import AdmissionRequest, RefusalReason, Refused, Stage

POOL = PoolName.DASHBOARD
REQUEST = AdmissionRequest("1", "a", POOL, 10.0)
REFUSED = Refused(
    "1", POOL, RefusalReason.OVERLOADED, Stage.ARRIVAL, "wait_budget", 4, 0.0, expected_wait=2.0, allowed_wait=1.0
)  # fmt: skip


def again(echo: Echo, allowed: float = 1.5, at: float = 1.0, **changes: object) -> Refused | None:
    asked = {"pool": POOL, "tenant": "a", "criticality": Criticality.CRITICAL, **changes}
    return echo.again(allowed_wait=allowed, now=at, **asked)  # type: ignore[arg-type] # a test names the arguments


def test_the_like_of_a_refused_request_is_refused_until_something_changes() -> None:
    echo = Echo()
    assert again(echo) is None
    echo.refused(REQUEST, REFUSED, 1.0)
    assert again(echo) is REFUSED
    assert again(echo, allowed=1.999) is REFUSED
    assert again(echo, allowed=2.0) is None
    assert again(echo, pool=PoolName.ADMIN) is None
    assert again(echo, tenant="b") is None
    assert again(echo, criticality=Criticality.SHEDDABLE) is REFUSED
    assert again(echo, criticality=Criticality.CRITICAL_PLUS) is None
    assert again(echo, at=1.0 + LIFETIME) is None
    echo.changed()
    assert again(echo) is None


@pytest.mark.parametrize(
    "refused",
    [
        replace(REFUSED, reason=RefusalReason.QUEUE_TIMEOUT, stage=Stage.QUEUE),
        replace(REFUSED, reason=RefusalReason.DEADLINE_TOO_SHORT, limiting_factor="deadline"),
        replace(REFUSED, reason=RefusalReason.TENANT_QUOTA, limiting_factor="tenant_queue"),
        replace(REFUSED, stage=Stage.DISPATCH),
        replace(REFUSED, expected_wait=math.inf),
    ],
)
def test_other_refusals_say_nothing_about_the_next_request(refused: Refused) -> None:
    echo = Echo()
    echo.refused(REQUEST, refused, 1.0)
    assert again(echo, allowed=0.0) is None


def test_what_is_known_of_the_more_critical_is_kept() -> None:
    echo = Echo()
    echo.refused(REQUEST, REFUSED, 1.0)
    echo.refused(replace(REQUEST, criticality=Criticality.SHEDDABLE), replace(REFUSED, id="2"), 1.0)
    assert again(echo) is REFUSED
    echo.refused(replace(REQUEST, attempt=1), replace(REFUSED, expected_wait=9.0), 1.0)
    assert again(echo, allowed=5.0) is None, "later attempts go behind first ones, and wait longer"


def test_memory_is_bounded() -> None:
    echo = Echo()
    for number in range(MOST + 5):
        echo.refused(replace(REQUEST, tenant=str(number)), REFUSED, 1.0)
    assert again(echo, tenant="0") is REFUSED
    assert again(echo, tenant=str(MOST)) is None
