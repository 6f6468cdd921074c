"""The database of the jobs behind a proxy that breaks connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_jobs_pool import JobDatabase, open_job_database
from broker.domain.errors import BrokerError, ErrorReason
from tests.conftest import FreshDatabase
from tests.support.eventually import eventually
from tests.support.proxy import Proxy, Way, proxied

READ = "SELECT count(*) FROM broker.job"


@dataclass(frozen=True, slots=True)
class Place:
    """The database, and the proxy before it."""

    proxy: Proxy
    database: JobDatabase

    async def refused(self) -> BrokerError:
        with pytest.raises(BrokerError) as caught:
            await self.database.fetch(READ, repeatable=True)
        assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
        assert caught.value.metadata["store"] == "jobs"
        return caught.value

    async def answers(self) -> bool:
        try:
            await self.database.fetch(READ)
        except BrokerError:
            return False
        return True


@pytest.fixture
async def place(fresh_database: FreshDatabase) -> AsyncIterator[Place]:
    dsn = await fresh_database()
    await migrate(dsn, "jobs")
    async with proxied(dsn) as (proxy, through), open_job_database(through, 2, Random(1).random) as database:
        yield Place(proxy, database)


async def test_while_it_is_away_it_is_left_alone_and_then_found_again(place: Place) -> None:
    assert await place.answers()
    place.proxy.way = Way.RESET
    place.proxy.cut()
    before = place.proxy.attempts
    errors = [await place.refused() for _ in range(200)]
    # Five failures open it; then there are single trials.
    assert place.proxy.attempts - before <= 40
    (last,) = [error for error in errors if error.metadata.get("breaker") == "open"][-1:]
    assert last.message.startswith("The job database cannot answer, for ")
    assert last.retry_after is not None
    assert 0 < last.retry_after <= 2
    with pytest.raises(BrokerError) as caught:
        async with place.database.transaction():
            raise AssertionError("it is away")
    assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
    place.proxy.way = Way.THROUGH
    await eventually(place.answers, "it is found to be back")
    async with place.database.transaction() as connection:
        assert await connection.fetchval(READ) == 0


async def test_only_what_may_be_repeated_is_repeated(place: Place) -> None:
    place.proxy.reset_next(1)
    assert not await place.answers()
    assert place.proxy.attempts == 1
    place.proxy.reset_next(1)
    assert len(await place.database.fetch(READ, repeatable=True)) == 1
    assert place.proxy.attempts == 3


async def test_errors_in_statements_leave_it_closed(place: Place) -> None:
    for _ in range(30):
        with pytest.raises(BrokerError) as caught:
            await place.database.fetch("SELECT * FROM broker.no_such_table", repeatable=True)
        assert caught.value.reason is ErrorReason.STORE_REJECTED
    assert await place.answers()
