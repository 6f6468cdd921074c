"""Cached answers are what the tables held at the instant that they name, while drawn tables change under them.

Callers with other rows ask under all kinds of terms; rollups lose sight of changes and are installed again. A failure
names the seed; the environment variable DRAWN_SEED asks for other datasets, DRAWN_STEPS for more changes.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from google.protobuf import text_format

from querybroker import Result, policy
from querybroker.v1 import answer_pb2 as a
from querybroker.v1 import policy_pb2 as p
from tests.conftest import FreshDatabase
from tests.oracle.choosing import Seeded
from tests.oracle.narrowing import broad, narrower
from tests.oracle.zones import day_number, micros
from tests.support.drawn.models import draw
from tests.support.drawn.place import DrawnPlace, drawn_place
from tests.support.drawn.space import DrawnSpace
from tests.support.drawn.versions import Given, Question, Versions
from tests.support.rollups import install

SEED = int(os.environ.get("DRAWN_SEED", "24"))
STEPS = int(os.environ.get("DRAWN_STEPS", "12"))
DATASETS, WIDE, NARROWER, ASKED, AGAIN = 2, 2, 2, 10, 70
"""Of each dataset so many questions, and of each so many narrower ones; asked before and after every change, of which
so many of a hundred were asked before."""
TERMS = (
    *[policy()] * 6,
    policy(cache="only"),
    policy(cache="revalidate"),
    policy(max_staleness=0.2),
    policy(max_staleness=0),
    policy(rollup="forbid"),
    policy(consistency="snapshot"),
)

UNSEEN = """
DO $$
DECLARE
  ours text;
BEGIN
  FOR ours IN SELECT tgname FROM pg_trigger WHERE tgrelid = '{name}'::regclass AND tgname LIKE 'rollup%' LOOP
    EXECUTE format('ALTER TABLE {name} DISABLE TRIGGER %I', ours);
  END LOOP;
  DELETE FROM {name} WHERE id % 5 = {part};
  FOR ours IN SELECT tgname FROM pg_trigger WHERE tgrelid = '{name}'::regclass AND tgname LIKE 'rollup%' LOOP
    EXECUTE format('ALTER TABLE {name} ENABLE ALWAYS TRIGGER %I', ours);
  END LOOP;
END $$"""
"""A change that leaves no mark; every trigger is there again afterwards."""


@pytest.fixture
async def place(fresh_database: FreshDatabase, tmp_path: Path) -> AsyncIterator[DrawnPlace]:
    """The datasets of the seed, and a broker that looks for changes all the time."""
    random = Random(SEED)
    drawn = [draw(random, f"d{i}") for i in range(DATASETS)]
    ages = {"memory": "64MiB", "soft_age": "0s", "poll": "20ms"}
    async with drawn_place(await fresh_database(), tmp_path, drawn, random, worker=False, **ages) as made:
        yield made


def kind_of(given: Given) -> str:
    """What came of a question, in a word."""
    if not isinstance(given.answer, Result):
        return given.answer.reason
    return a.AnswerKind.Name(given.answer.status.kind).removeprefix("ANSWER_KIND_")


async def change(place: DrawnPlace, random: Random) -> None:
    """Changes tables, mostly in sight of the broker."""
    dataset = random.choice(place.datasets)
    name = dataset.shape.name
    chance = random.random()
    if chance < 0.6:
        await place.change(random, dataset)
    elif chance < 0.8:
        await place.connection.execute(UNSEEN.format(name=name, part=random.randrange(5)))
    else:
        await install(place.dsn, place.config)


async def test_cached_answers_are_true_at_their_instant_while_tables_change(place: DrawnPlace) -> None:
    random, chooser = Random(SEED), Seeded(SEED)
    questions: list[Question] = []
    for dataset in place.datasets:
        space = DrawnSpace.of(dataset, micros(datetime.now(UTC)))
        edges = [day_number(dataset.shape.first) + i for i in range(2, min(dataset.shape.days, 30) + 2)]
        for _ in range(WIDE):
            wide = broad(chooser, space, edges)
            more = [narrower(chooser, space, wide) for _ in range(NARROWER)]
            questions += [Question(query, space.model) for query in (wide, *more)]
    versions = Versions(questions, {"all": place.client, "limited": place.limited})
    asked: list[tuple[str, int, p.AnswerPolicy]] = []

    async def ask() -> list[Given]:
        given = []
        for _ in range(ASKED):
            if not asked or random.randrange(100) >= AGAIN:
                caller, question = random.choice(list(versions.callers)), random.randrange(len(questions))
                asked.append((caller, question, random.choice(TERMS)))
            given.append(await versions.ask(*random.choice(asked[-ASKED:])))
        return given

    found, kinds = list[str](), Counter[str]()
    await versions.add(0.0)
    for step in range(STEPS):
        given = await ask()
        began = time.time()
        await change(place, random)
        changed = time.time()
        given += await ask()
        await versions.add(began)
        versions.every[-1].ended = changed
        for each in given:
            kinds[kind_of(each)] += 1
            if what := versions.wrong(each):
                query = text_format.MessageToString(questions[each.question].query)
                found.append(f"step {step}, {each.caller}, {each.policy}{query}{each.answer}\n{what}")
    assert not found, "\n\n".join([f"seed {SEED}: {len(found)} of {kinds}", *found[:2]])
    assert kinds["CACHE_FRESH"] > STEPS * ASKED / 4, f"hardly anything was answered from the cache: {kinds}"
