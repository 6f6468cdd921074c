"""Shares of the work that was done of late."""

import pytest

from broker.policy.admission.work_ledger import HALF_LIFE, MAX_TENANTS, WorkLedger


def test_work_counts_half_after_a_minute() -> None:
    ledger = WorkLedger()
    assert ledger.shares() == {}
    ledger.add("a", 4.0, 100.0)
    ledger.add("b", 1.0, 100.0 + HALF_LIFE)
    ledger.add("b", 1.0, 100.0 + HALF_LIFE)
    assert ledger.shares() == pytest.approx({"a": 0.5, "b": 0.5})
    assert ledger.shares() == pytest.approx({"a": 0.5, "b": 0.5})


def test_work_that_took_no_time_has_no_share() -> None:
    ledger = WorkLedger()
    ledger.add("a", 0.0, 1.0)
    assert ledger.shares() == {}


def test_the_least_busy_tenants_are_forgotten() -> None:
    ledger = WorkLedger()
    for i in range(2 * MAX_TENANTS):
        ledger.add(str(i), 2.0 + i, 10.0)
    assert len(ledger.shares()) == 2 * MAX_TENANTS
    ledger.add("late", 1e9, 11.0)
    shares = ledger.shares()
    assert len(shares) == MAX_TENANTS
    assert str(MAX_TENANTS) not in shares
    assert str(MAX_TENANTS + 1) in shares
    assert shares["late"] > 0.99
