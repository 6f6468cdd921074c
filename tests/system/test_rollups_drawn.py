"""Rollups of datasets that are drawn at random answer as their tables do, through random changes, refreshes and seals.

A failure names the seed; the environment variable DRAWN_SEED asks for other datasets, DRAWN_QUESTIONS for more of them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from google.protobuf import text_format

from tests.conftest import FreshDatabase
from tests.oracle.choosing import Seeded
from tests.oracle.zones import micros
from tests.support.drawn.asking import Tally, compare
from tests.support.drawn.models import draw
from tests.support.drawn.place import DrawnPlace, drawn_place
from tests.support.drawn.sealing import ask, judge
from tests.support.drawn.space import DrawnSpace

SEED = int(os.environ.get("DRAWN_SEED", "4"))
QUESTIONS = int(os.environ.get("DRAWN_QUESTIONS", "15"))
"""Of each dataset in each state."""
DATASETS = 5
SEALED = 2
"""Datasets in which partitions are sealed."""
REPORTS = 3


@pytest.fixture
async def place(fresh_database: FreshDatabase, tmp_path: Path) -> AsyncIterator[DrawnPlace]:
    """The datasets of the seed."""
    random = Random(SEED)
    drawn = [draw(random, f"d{i}") for i in range(DATASETS)]
    async with drawn_place(await fresh_database(), tmp_path, drawn, random) as made:
        yield made


async def test_drawn_rollups_answer_as_their_tables_do(place: DrawnPlace) -> None:
    random, chooser, tally = Random(SEED), Seeded(SEED), Tally()
    spaces = [DrawnSpace.of(dataset, micros(datetime.now(UTC))) for dataset in place.datasets]
    unbuilt: list[str] = []
    for state in ("built", "changed", "refreshed", "changed again"):
        if state in ("built", "refreshed"):
            unbuilt = await place.refresh()  # values may be too odd for some
        else:
            for dataset in place.datasets:
                await place.change(random, dataset)
        for space in spaces:
            queries = [space.query(chooser) for _ in range(QUESTIONS)]
            own = len(queries) * 2 // 5
            await compare(place.client, space.model, queries[own:], tally)
            await compare(place.limited, space.model, queries[:own], tally)
    await place.refresh()
    for dataset, space in random.sample(list(zip(place.datasets, spaces, strict=True)), SEALED):
        queries = [space.query(chooser) for _ in range(QUESTIONS)]
        before = await ask(place.client, queries, rollup="forbid")
        gone = await place.seal(random, dataset)
        if not gone:
            continue
        await place.until_sealed(dataset)
        for statement in gone:
            await place.connection.execute(statement)
        for refreshed in (False, True):
            if refreshed:
                await place.refresh()
            for partial in ("forbid", "allow"):
                after = await ask(place.client, queries, partial=partial)
                judge(space.model, queries, before, after, tally, partial=partial == "allow")
    shown = [f"{text_format.MessageToString(query)}{what}" for query, what in tally.wrong[:REPORTS]]
    assert not tally.wrong, "\n\n".join([f"seed {SEED}: {len(tally.wrong)} of {tally.compared}", *shown])
    rolled = sum(tally.kinds.values())
    assert rolled > DATASETS * QUESTIONS, f"hardly anything was answered by rollups: {tally} {unbuilt}"
