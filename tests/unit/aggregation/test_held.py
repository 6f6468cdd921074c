"""Answers out of held answers: whenever the rules say that it can be done, the answer is that of the raw facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation import encode, kernels, tasks, unpack
from broker.domain.answer import Table
from broker.domain.errors import BrokerError
from broker.domain.measures import UNMERGEABLE, leaves
from broker.domain.plan import Plan
from broker.domain.query import (
    AbsoluteRange,
    AllOf,
    AnyOf,
    Condition,
    Filter,
    Grain,
    Not,
    Operator,
    OrderKey,
    Query,
    TimeSelection,
)
from broker.domain.timegrid import build
from broker.domain.values import ResultFormat
from broker.policy.containment import Asking, content_of, way
from tests.unit.aggregation import questions, reference
from tests.unit.aggregation.facts import DATASET, START, Fact, facts, plan
from tests.unit.aggregation.source import plain, results

ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu")
GRAINS = (Grain.HOUR, Grain.DAY, Grain.WEEK)
ROUNDS = 90
SEEDS = st.integers(0, 2**32).map(Random)


def kept(rows: list[Fact], resolved: Plan) -> list[Fact]:
    """The facts that pass a plan's filter."""
    node = resolved.main.filter

    def record(fact: Fact) -> Mapping[str, object]:
        return {"at": plain(fact.at), "name": fact.name, "flag": fact.flag}

    return rows if node is None else [fact for fact in rows if reference.truth(node, record(fact)) is True]


def live(resolved: Plan, rows: list[Fact], encoding: ResultFormat) -> Table:
    """The answer as it is held."""
    finish = replace(resolved.finish, pushed_down=False)
    (made,) = tasks.table(results(resolved, kept(rows, resolved), [0], csv=True), finish, encoding)
    return Table(resolved.columns, made.row_count, encoding, made.data)


def condition(chance: Random) -> Filter:
    """A tree of conditions on dimensions."""
    shape = chance.choice([Condition, Condition, Condition, Not, AllOf, AnyOf])
    if shape is Not:
        return Not(condition(chance))
    if shape is not Condition:
        children = tuple(condition(chance) for _ in range(chance.randint(1, 3)))
        return AllOf(children) if shape is AllOf else AnyOf(children)
    member = chance.choice(["name", "name", "flag", "at"])
    if member == "flag":
        return Condition("flag", chance.choice([Operator.EQ, Operator.NE]), (chance.random() < 0.5,))
    if member == "at":
        operator = chance.choice([Operator.GE, Operator.LT, Operator.GT, Operator.IS_NOT_NULL])
        at = START + timedelta(hours=chance.choice([-24, -1, 0, 24, 48]))
        return Condition("at", operator, () if operator is Operator.IS_NOT_NULL else (at,))
    operator = chance.choice(
        [Operator.EQ, Operator.IN, Operator.NOT_IN, Operator.IS_NULL, Operator.CONTAINS, Operator.LT]
    )
    counts = {Operator.IS_NULL: 0, Operator.IN: 2, Operator.NOT_IN: 2}
    values = tuple(chance.choice(["", "a", "b", "é", "B"]) for _ in range(counts.get(operator, 1)))
    return Condition("name", operator, values)


def broad(chance: Random) -> Query:
    """A question whose answer is worth keeping."""
    if chance.random() < 0.3:
        return replace(questions.query(chance), filter=condition(chance) if chance.random() < 0.2 else None)
    measures = tuple(chance.sample(list(DATASET.measures), chance.randint(1, 8)))
    dimensions = tuple(chance.sample(["name", "flag"], chance.randint(0, 2)))
    grain, zone = chance.choice([None, *GRAINS]), chance.choice(ZONES)
    starts = build(questions.WEEKS, Grain.DAY, zone).starts
    begin = chance.choice([starts[0], starts[1] + timedelta(hours=chance.randint(0, 30))])
    time = TimeSelection("at", grain, zone, AbsoluteRange(begin, starts[-1]), gap_fill=False)
    if grain is not None and chance.random() < 0.15:
        time = replace(time, gap_fill=True)
    where = condition(chance) if chance.random() < 0.25 else None
    return Query("facts", measures, dimensions, time if chance.random() < 0.9 else None, where)


def narrow(chance: Random, query: Query) -> Query:
    """What somebody might ask next: less of the same."""
    measures = [m for m in query.measures if chance.random() < 0.7] or list(query.measures)
    merges = [m for m in measures if all(leaf.kind not in UNMERGEABLE for leaf in leaves(DATASET, [m]))]
    dimensions = tuple(d for d in query.dimensions if chance.random() < 0.7)
    time = query.time
    if time is not None and isinstance(time.range, AbsoluteRange) and chance.random() < 0.7:
        grain = chance.choice([None, *GRAINS, time.grain])
        zone = chance.choice([time.zone, time.zone, chance.choice(ZONES)])
        starts = build(time.range, grain or chance.choice(GRAINS), zone).starts
        first, last = sorted(chance.choices([time.range.start, *starts, time.range.end], k=2))
        wanted = chance.choice([AbsoluteRange(first, last), time.range])
        if wanted.start < wanted.end:
            time = TimeSelection(
                time.dimension, grain, zone, wanted, grain is not None and chance.random() < 0.3
            )
    where = query.filter
    if chance.random() < 0.5:
        where = condition(chance) if where is None else AllOf((where, condition(chance)))
    if not measures and not dimensions and (time is None or time.grain is None):
        measures = ["rows"]
    found = Query("facts", tuple(measures), dimensions, time, where)
    grouped = time is not None and time.grain is not None
    if chance.random() < 0.4 and merges:
        asked = replace(found, measures=tuple(merges))
        found = valid(
            replace(asked, calculations=questions.calculations(chance, asked, grouped=grouped)), found
        )
    if chance.random() < 0.3:
        return replace(query, limit=chance.randint(1, 4), order=query.order)
    names = [column.name for column in plan(valid(found, query)).columns]
    if chance.random() < 0.4:
        found = replace(
            found, order=(OrderKey(chance.choice(names), chance.random() < 0.5, chance.random() < 0.5),)
        )
    having = questions.condition(chance, measures) if measures and chance.random() < 0.15 else None
    return replace(found, having=having, limit=chance.choice([0, 0, 2]))


def valid(query: Query, otherwise: Query) -> Query:
    """The question, unless it breaks a rule of the contract."""
    try:
        plan(query)
    except BrokerError:
        return otherwise
    return query


def pairs(seed: int) -> Iterator[tuple[Plan, Plan, list[Fact]]]:
    """Questions whose answers are held, and questions that follow."""
    chance = Random(seed)
    for _ in range(ROUNDS):
        rows = facts(chance)
        before = broad(chance)
        before = valid(before, Query("facts", ("rows", "whole_sum"), ("name",)))
        held = plan(before)
        for _ in range(3):
            yield held, plan(valid(narrow(chance, before), before)), rows


@pytest.mark.parametrize("encoding", ResultFormat)
def test_what_is_contained_is_answered_as_from_the_facts(encoding: ResultFormat) -> None:
    seen: Counter[str] = Counter()
    for held, asked, rows in pairs(7 if encoding is ResultFormat.COLUMNS else 8):
        table = live(held, rows, encoding)
        found = way(Asking(asked), content_of(held), table, build)
        seen["contained" if found is not None else "not"] += 1
        if found is None:
            continue
        (made,) = tasks.table(found.results, found.finish, ResultFormat.COLUMNS)
        mine = unpack.table(made.data, ResultFormat.COLUMNS, asked.columns).rows()
        theirs = reference.answer(asked, kept(rows, asked))
        assert len(mine) == len(theirs), (held.query, asked.query, mine, theirs)
        for one, two in zip(mine, theirs, strict=True):
            assert all(map(reference.same, one, two)), (held.query, asked.query, one, two)
    assert seen["contained"] > ROUNDS / 2
    assert seen["not"] > ROUNDS / 2


@settings(max_examples=60, deadline=None)
@given(query=SEEDS.map(questions.query), rows=SEEDS.map(facts), encoding=st.sampled_from(ResultFormat))
def test_a_table_is_read_as_it_was_written(query: Query, rows: list[Fact], encoding: ResultFormat) -> None:
    resolved = plan(query)
    finish = replace(resolved.finish, pushed_down=False)
    written = kernels.answer(results(resolved, rows, [0], csv=False), finish)
    found = unpack.table(encode.table(written, resolved.columns, encoding), encoding, resolved.columns)
    assert found.columns == [column.name for column in resolved.columns]
    assert found.rename(dict(zip(found.columns, written.columns, strict=True))).equals(written)


@pytest.mark.parametrize("size", [1, 2, 40, -1])
def test_bytes_that_are_no_table_are_told(size: int) -> None:
    resolved = plan(Query("facts", ("rows", "whole_sum"), ("name",)))
    data = live(resolved, facts(Random(3)), ResultFormat.COLUMNS).encoded
    with pytest.raises(ValueError, match=r"values? in|field|number|columns"):
        unpack.table(data[:size], ResultFormat.COLUMNS, resolved.columns)
