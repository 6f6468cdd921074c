"""Each guard of the statements is needed: with it its scenario holds, without it some invariant breaks."""

from __future__ import annotations

import asyncpg
import pytest

from broker.ports.jobs import JobSignal
from tests.support.job_attempts import Scenario
from tests.support.job_guards import GUARDS
from tests.support.jobs import Jobs

EMPTY = ";".join(
    f"DELETE FROM broker.{table}" for table in ("job_part", "job_attempt", "job_request", "job", "worker")
)


async def broken(jobs: Jobs, scenario: Scenario) -> bool:
    """Whether an assertion or a constraint of the tables has found something; any other error is the test's own."""
    await jobs.admin.execute(EMPTY)
    jobs.ports.queue.hear(JobSignal(resync=True))
    try:
        await scenario(jobs)
    except (AssertionError, asyncpg.IntegrityConstraintViolationError):
        return True
    return False


async def test_every_guard_is_missed_when_it_is_removed(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    not_holding, not_missed = [], []
    for guard in GUARDS:
        if await broken(jobs, guard.scenario):
            not_holding.append(guard.name)
        with monkeypatch.context() as patched:
            patched.setattr(guard.module, guard.statement, guard.removed)
            if not await broken(jobs, guard.scenario):
                not_missed.append(guard.name)
    assert not_holding == []
    assert not_missed == []
