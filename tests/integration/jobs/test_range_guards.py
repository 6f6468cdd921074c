"""Each guard of the statements about ranges is needed, as those of the statements about jobs are."""

from __future__ import annotations

import pytest

from tests.integration.jobs.test_guards import broken
from tests.support.jobs import Jobs
from tests.support.range_guards import RANGE_GUARDS


async def test_every_guard_of_a_range_is_missed_when_it_is_removed(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_holding, not_missed = [], []
    for guard in RANGE_GUARDS:
        if await broken(jobs, guard.scenario):
            not_holding.append(guard.name)
        with monkeypatch.context() as patched:
            patched.setattr(guard.module, guard.statement, guard.removed)
            if not await broken(jobs, guard.scenario):
                not_missed.append(guard.name)
    assert not_holding == []
    assert not_missed == []
