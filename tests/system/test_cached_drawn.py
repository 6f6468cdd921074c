"""Cached answers about datasets that are drawn at random, and what they contain, are what the tables answer.

Nobody writes meanwhile. A failure names the seed; the environment variable DRAWN_SEED asks for other datasets,
DRAWN_QUESTIONS for more of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from google.protobuf import text_format

from querybroker import Client, QueryBrokerError, Result, policy
from querybroker.v1 import answer_pb2 as a
from querybroker.v1 import query_pb2 as q
from tests.conftest import FreshDatabase
from tests.oracle.choosing import Seeded
from tests.oracle.model import OracleModel
from tests.oracle.narrowing import broad, narrower
from tests.oracle.zones import day_number, micros
from tests.support.drawn.asking import difference
from tests.support.drawn.models import draw
from tests.support.drawn.place import DrawnPlace, drawn_place
from tests.support.drawn.space import DrawnSpace

SEED = int(os.environ.get("DRAWN_SEED", "3"))
QUESTIONS = int(os.environ.get("DRAWN_QUESTIONS", "12"))
"""Whose answers are cached, of each dataset."""
DATASETS, NARROWER = 3, 4
CACHED = (a.ANSWER_KIND_CACHE_FRESH, a.ANSWER_KIND_CACHE_STALE)


@pytest.fixture
async def place(fresh_database: FreshDatabase, tmp_path: Path) -> AsyncIterator[DrawnPlace]:
    """The datasets of the seed, most without rollups, and a broker whose answers stay fresh for an hour."""
    random = Random(SEED)
    drawn = [draw(random, f"d{i}") for i in range(DATASETS)]
    drawn[1:] = [replace(each, given={**each.given, "rollups": {}}) for each in drawn[1:]]
    dsn = await fresh_database()
    async with drawn_place(
        dsn, tmp_path, drawn, random, memory="64MiB", soft_age="1h", hard_age="2h"
    ) as made:
        yield made


async def answered(client: Client, query: q.Query, cache: str = "") -> Result | QueryBrokerError:
    """With ``cache`` from the tables, without from wherever the broker likes to."""
    try:
        return await client.ask(
            query, policy=policy(cache=cache, rollup="forbid" if cache else ""), timeout=60
        )
    except QueryBrokerError as error:
        return error


def wrong(model: OracleModel, got: Result | QueryBrokerError, live: Result | QueryBrokerError) -> str:
    """What is wrong with an answer, beside that of the tables."""
    if isinstance(got, QueryBrokerError) or isinstance(live, QueryBrokerError):
        reasons = [getattr(each, "reason", "answered") for each in (got, live)]
        return "" if reasons[0] == reasons[1] else " and ".join(reasons)
    if list(got.status.bounds) != list(live.status.bounds) or got.status.exactness != live.status.exactness:
        return f"{got.status} and {live.status}"
    try:
        return difference(model, got, live, together=False)
    except OverflowError:  # dates that Python cannot hold
        return "" if got.columns == live.columns else f"{got.columns} and {live.columns}"


async def test_cached_answers_are_those_of_the_tables(place: DrawnPlace) -> None:
    chooser, found, kinds = Seeded(SEED), [], Counter[bool]()
    for dataset in place.datasets:
        space = DrawnSpace.of(dataset, micros(datetime.now(UTC)))
        edges = [day_number(dataset.shape.first) + i for i in range(2, min(dataset.shape.days, 30) + 2)]
        for _ in range(QUESTIONS):
            wide = broad(chooser, space, edges)
            await answered(place.client, wide)
            for query in (wide, *(narrower(chooser, space, wide) for _ in range(NARROWER))):
                got, live = [await answered(place.client, query, cache) for cache in ("", "bypass")]
                kinds[isinstance(got, Result) and got.status.kind in CACHED] += 1
                if what := wrong(space.model, got, live):
                    found.append(f"{text_format.MessageToString(wide)}then\n{query}\n{what}")
    assert not found, "\n\n".join([f"seed {SEED}: {len(found)} of {kinds}", *found[:2]])
    assert kinds[True] > DATASETS * QUESTIONS, f"hardly anything was answered from the cache: {kinds}"
