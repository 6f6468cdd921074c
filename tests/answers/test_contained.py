"""Held answers answer most of what an analyst asks next, and say what the database says."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
import pytest

from broker.domain.measures import HLL_RELATIVE_ERROR
from querybroker.v1 import answer_pb2 as a
from querybroker.v1 import policy_pb2 as p
from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.oracle.ask import TIMEOUT, channel_to
from tests.oracle.compare import unlike
from tests.oracle.decode import Actual, from_table
from tests.support.exploration import recorded
from tests.support.server import running_broker

STEPS = 204
GOAL = 0.5
LIVE = p.AnswerPolicy(cache_mode=p.CACHE_MODE_BYPASS)


async def asked(
    channel: grpc.aio.Channel, queries: Sequence[q.Query], policy: p.AnswerPolicy | None = None
) -> list[s.PanelAnswer]:
    panels = [s.Panel(query=query, policy=policy) for query in queries]
    request = s.DashboardRequest(panels=panels)
    response = await QueryServiceStub(channel).Dashboard(request, timeout=TIMEOUT)
    return list(response.panels)


def different(mine: Actual, live: Actual) -> str | None:
    """Where the answers differ; distinct planes, which are estimated, may by what each of them may be wrong by."""
    places = [i for i, column in enumerate(mine.columns) if column.name == "planes"]
    for i in places if len(mine.rows) == len(live.rows) else ():
        for one, two in zip(mine.rows, live.rows, strict=True):
            if one[i] != pytest.approx(two[i], rel=2 * HLL_RELATIVE_ERROR):
                return f"{one} and {two}"
    return unlike(without(mine, places), without(live, places))


def without(answer: Actual, places: Sequence[int]) -> Actual:
    """The answer without some columns."""
    kept = [i for i in range(len(answer.columns)) if i not in places]
    rows = tuple(tuple(row[i] for i in kept) for row in answer.rows)
    return Actual(tuple(answer.columns[i] for i in kept), rows)


async def test_an_exploration_is_mostly_answered_without_the_store(flights_dsn: str, tmp_path: Path) -> None:
    overrides = {"cache.memory": 64 << 20, "cache.soft_age": 3600}
    manager = running_broker(flights_dsn, tmp_path / "home", overrides=overrides)
    broker = await asyncio.to_thread(manager.__enter__)
    steps = list(recorded(2013, STEPS))
    try:
        async with channel_to(broker.address) as channel:
            replayed = [(query, (await asked(channel, [query]))[0]) for _, query in steps]
            ours = {str(query): (query, mine) for query, mine in replayed if source(mine) != "store"}
            queries = [query for query, _ in ours.values()]
            read = [
                answer
                for first in range(0, len(queries), 20)
                for answer in await asked(channel, queries[first : first + 20], LIVE)
            ]
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
    for (query, mine), live in zip(ours.values(), read, strict=True):
        assert live.status.kind == a.ANSWER_KIND_LIVE
        if mine.table != live.table:  # in the last digits of a double, or the estimate of a sketch
            assert different(from_table(mine.table), from_table(live.table)) is None, query
    seen = Counter(source(mine) for _, mine in replayed)
    moves = Counter((name, source(mine)) for (name, _), (_, mine) in zip(steps, replayed, strict=True))
    share = 1 - seen["store"] / STEPS
    logging.getLogger(__name__).info("%.3f without the store: %s; %s", share, dict(seen), dict(moves))
    assert share >= GOAL, moves
    assert seen["contained"] >= STEPS / 4


def source(answer: s.PanelAnswer) -> str:
    """Where an answer came from; what it says of itself must agree."""
    status = answer.status
    if status.kind != a.ANSWER_KIND_CACHE_FRESH:
        assert status.kind == a.ANSWER_KIND_LIVE
        return "store"
    (part,) = status.parts
    assert part.source == a.PART_SOURCE_CACHE
    assert not status.degraded
    (step,) = status.ladder
    contained = part.source_name.startswith("contained:")
    assert step.source_name == (part.source_name if step.source_name else "")
    return "contained" if contained else "held"
