"""Fixtures for tests of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.conftest import FreshDatabase
from tests.support.jobs import Jobs, job_database


@pytest.fixture
async def jobs(fresh_database: FreshDatabase) -> AsyncIterator[Jobs]:
    """A job database of this test's own."""
    async with job_database(await fresh_database()) as opened:
        yield opened
