"""The page of the ladder says which errors lead down, and what they are called."""

from __future__ import annotations

import re
from pathlib import Path

from broker.domain.answer import DegradationReason, Rung
from broker.domain.errors import BrokerError
from broker.policy.degradation import DEGRADABLE, reason_of

PAGE = (Path(__file__).parents[3] / "docs" / "cache.md").read_text().partition("## The ladder")[2]


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
