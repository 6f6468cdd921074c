"""Which errors lead down, what they are called, and that the page of the ladder says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.domain.answer import DegradationReason, Rung
from broker.domain.errors import BrokerError, ErrorReason
from broker.policy.degradation import DEGRADABLE, degradable, reason_of

PAGE = (Path(__file__).parents[3] / "docs" / "cache.md").read_text().partition("## The ladder")[2]


def overloaded(factor: str) -> BrokerError:
    return BrokerError(ErrorReason.OVERLOADED, "", metadata={"limiting_factor": factor})


def rows() -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in PAGE.splitlines()
        if line.startswith("| ")
    ]


def test_every_rung_has_its_row() -> None:
    assert {rung.name for rung in Rung} <= {
        match for row in rows() for match in re.findall(r"^`(\w+)`$", row[0])
    }


def test_the_picture_has_the_rungs_in_their_order() -> None:
    drawing = PAGE.partition("```mermaid")[2].partition("```")[0]
    assert list(dict.fromkeys(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b(?!\()", drawing)))[1:] == [
        rung.name for rung in Rung
    ]


def test_every_error_that_leads_down_has_its_reason() -> None:
    told = {
        name: set(re.findall(r"`([A-Z_]+)`", row[-1]))
        for row in rows()
        for name in re.findall(r"`([A-Z_]+)`", row[0])
        if len(row) == 2
    }
    for reason in DEGRADABLE:
        assert reason_of(BrokerError(reason, "")).name in told[reason.value]
    named = {name for names in told.values() for name in names} | {"BROWNOUT"}
    assert named <= {reason.name for reason in DegradationReason}


def test_every_error_has_a_reason_and_a_rate_is_not_got_around() -> None:
    for reason in ErrorReason:
        assert reason_of(BrokerError(reason, "")) in DegradationReason
    quota = BrokerError(ErrorReason.TENANT_QUOTA, "", metadata={"limiting_factor": "tenant_rate"})
    assert not degradable(quota)
    assert degradable(BrokerError(ErrorReason.TENANT_QUOTA, "", metadata={"limiting_factor": "tenant_queue"}))
    named = {reason_of(BrokerError(reason, "")) for reason in DEGRADABLE}
    assert DegradationReason.UPSTREAM_ERROR not in named


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            BrokerError(ErrorReason.OVERLOADED, "", metadata={"limiting_factor": "wait_budget"}),
            DegradationReason.OVERLOAD_POOL_FULL,
        ),
        (
            BrokerError(ErrorReason.OVERLOADED, "", metadata={"limiting_factor": "loop_lag"}),
            DegradationReason.BROKER_PRESSURE,
        ),
        (
            BrokerError(
                ErrorReason.OVERLOADED,
                "",
                metadata={"backend_seats_used": "4", "backend_limit": "4", "backend_progress": "0.2"},
            ),
            DegradationReason.OVERLOAD_UPSTREAM_LIMIT,
        ),
        (
            BrokerError(ErrorReason.STORE_UNAVAILABLE, "", metadata={"sqlstate": "53300"}),
            DegradationReason.OVERLOAD_UPSTREAM_LIMIT,
        ),
        (
            BrokerError(ErrorReason.STORE_UNAVAILABLE, "", metadata={"breaker": "half_open"}),
            DegradationReason.CIRCUIT_OPEN,
        ),
        (BrokerError(ErrorReason.STORE_UNAVAILABLE, ""), DegradationReason.UPSTREAM_UNAVAILABLE),
        (
            BrokerError(ErrorReason.DEADLINE_EXCEEDED, "", metadata={"limiting_factor": "hopeless"}),
            DegradationReason.PREDICTED_OVER_DEADLINE,
        ),
    ],
)
def test_errors_are_told_apart_by_what_gave_out(error: BrokerError, reason: DegradationReason) -> None:
    assert reason_of(error) is reason
