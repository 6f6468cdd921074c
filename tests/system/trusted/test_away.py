"""PostgreSQL is away: local segments answer as of the last look at them."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import grpc.aio

from querybroker.v1 import answer_pb2
from tests.support.eventually import eventually
from tests.support.proxy import Way, proxied
from tests.system.trusted.place import PER_KIND, RIGHT, Place, rolled


async def test_without_the_database_local_segments_answer_as_of_the_last_look_and_after_a_start_too(
    place: Place,
) -> None:
    stale = answer_pb2.ANSWER_KIND_ROLLUP_STALE
    async with proxied(place.dsn) as (proxy, dsn):
        async with place.serving(dsn=dsn) as asked:
            assert await rolled(asked) == RIGHT
            owner = await asyncpg.connect(place.dsn)
            await owner.execute("INSERT INTO events VALUES (-1, '2024-02-03Z', 'kind-0')")
            await owner.close()
            changed = datetime.now(UTC)
            assert sum((await asked())[1].values()) == 3 * PER_KIND + 1
            proxy.way = Way.RESET
            proxy.cut()
            status, counts = await asked.told()
            assert (status.kind, counts) == (stale, RIGHT)
            assert (status.degraded, status.degradation_level) == (True, 3)
            assert status.as_of.ToDatetime(UTC) < changed
        index, attempts = place.mirror.glob("*.looks"), proxy.attempts
        assert len(list(index)) == 1
        async with place.serving(dsn=dsn) as asked:
            assert proxy.attempts > attempts, "it tries to reach the database"

            async def answered() -> bool:
                try:
                    status, counts = await asked.told()
                except grpc.aio.AioRpcError:
                    return False  # the files are being looked at
                return (status.kind, counts) == (stale, RIGHT)

            await eventually(answered, "it answers from what is in the mirror")
            proxy.way = Way.THROUGH

            async def fresh() -> bool:
                return sum((await asked())[1].values()) == 3 * PER_KIND + 1

            await eventually(fresh, "answers are fresh again")
    log = (place.home / "serve.log").read_text()
    assert "Traceback" not in log, log
