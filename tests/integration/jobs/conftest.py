"""Fixtures for tests of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from broker.jobs.children import Children
from tests.conftest import FreshDatabase
from tests.support.jobs import Jobs, job_database


@pytest.fixture
async def jobs(fresh_database: FreshDatabase) -> AsyncIterator[Jobs]:
    """A job database of this test's own."""
    async with job_database(await fresh_database()) as opened:
        yield opened


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    """Child processes for the workers of a module's tests; none is left when they are over."""
    made = Children(1 << 30)
    yield made
    assert made.count == 0
    made.close()
