"""Questions that differ in their texts and ranges alone are answered as each of them is by itself, whatever happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from querybroker import Client, QueryBrokerError, Result, policy
from querybroker.v1 import policy_pb2, query_pb2
from tests.support.rollups import rollup_store
from tests.system.rolled.place import Place, kind_of

NAME = "datasets/alike/rollups/daily"
FIRST, HOUR = datetime(2024, 1, 1, tzinfo=UTC), timedelta(hours=1)
KINDS = ("a", "b", "", "none such", "'; --")
DRAWS = 6
EDGES = ((0, 1), (0, 1440), (1439, 1440), (-48, 2), (1438, 1500), (2000, 2024))
"""Ranges in hours: the first row and the last, all of them, and some beyond where there are any."""


def asked(start: datetime, end: datetime, kind: str) -> query_pb2.Query:
    """Rows of a kind by day."""
    query = query_pb2.Query(dataset="alike", measures=["rows"])
    query.time.grain = query_pb2.TIME_GRAIN_DAY
    query.time.absolute.start_time.FromDatetime(start)
    query.time.absolute.end_time.FromDatetime(end)
    condition = query.filter.condition
    condition.member, condition.operator = "kind", query_pb2.FILTER_OPERATOR_EQ
    condition.values.add().string_value = kind
    return query


def by_itself(query: query_pb2.Query) -> query_pb2.Query:
    """The same question in words that are not looked for others in."""
    other = query_pb2.Query()
    other.CopyFrom(query)
    other.ClearField("filter")
    other.filter.any_of.filters.add().CopyFrom(query.filter)
    return other


def questions() -> list[query_pb2.Query]:
    """Each edge, and others at random, some of which end inside of a bucket."""
    random = Random(11)
    drawn = [
        (random.randrange(1_300), 24 * random.randrange(1, 9), random.choice((0, 0, 0, 7)))
        for _ in range(DRAWS)
    ]
    ranges = [(FIRST + HOUR * lo, FIRST + HOUR * hi) for lo, hi in EDGES]
    for start, length, rest in drawn:
        begin = FIRST + HOUR * start
        ranges.append((begin, begin + HOUR * length + timedelta(minutes=rest)))
    return [asked(*ends, KINDS[i % len(KINDS)]) for i, ends in enumerate(ranges)]


async def ask(client: Client, query: query_pb2.Query, terms: policy_pb2.AnswerPolicy | None = None) -> Result:
    """The answer; raises why there is none."""
    answer = (await client.dashboard({"it": query}, policy=terms, timeout=60))["it"]
    assert isinstance(answer, Result)
    return answer


async def compared(place: Place, *, rolled: bool) -> set[str]:
    """Asks every question alike, by itself, and of the tables; the kinds of answers that there were.

    Where the rollup is to answer, it is required: what the tables cost is learned, and little where they are small.
    """
    kinds = set()
    async with place.client() as client:
        for query in (*questions(), *questions()):
            live = await ask(client, by_itself(query), policy(rollup="forbid"))
            own = await ask(client, query)
            assert own.schema == live.schema
            assert own.rows() == live.rows(), query
            if not rolled:
                kinds.add(kind_of(own))
                continue
            one, other = [await required(client, each) for each in (query, by_itself(query))]
            assert isinstance(one, str) == isinstance(other, str)
            if isinstance(one, str) or isinstance(other, str):
                assert one == other
                continue
            kinds.add(kind_of(one))
            assert one.rows() == other.rows() == live.rows(), query
            assert told(one) == told(other)
    return kinds


async def required(client: Client, query: query_pb2.Query) -> Result | str:
    """The answer with a part of the rollup in it, or the reason why there is none."""
    try:
        return await ask(client, query, policy(rollup="require"))
    except QueryBrokerError as error:
        return error.reason


def told(answer: Result) -> tuple[object, ...]:
    """What the status says of where the answer was read."""
    status = answer.status
    return (
        [step.source_name for step in status.ladder],
        [(part.interval, part.source, part.source_name) for part in status.parts],
        (status.kind, status.exactness, status.guarantee, status.cost_class),
    )


async def _built(place: Place) -> None:
    await place.execute("ANALYZE alike")


async def _late(place: Place) -> None:
    await place.execute(
        "INSERT INTO alike SELECT 5000 + i, timestamptz '2024-01-03Z' + i * interval '5 hours', 'a' FROM "
        "generate_series(1, 9) AS i; UPDATE alike SET kind = 'b' WHERE id = 500; DELETE FROM alike WHERE id = 900;"
        "INSERT INTO alike VALUES (6000, NULL, 'a'), (6001, '2024-01-05Z', NULL)"
    )


async def _refreshed(place: Place) -> None:
    await place.refreshed("alike")


async def _quarantined(place: Place) -> None:
    async with rollup_store(place.dsn, place.config) as (store, model):
        await store.quarantine(model.datasets["alike"].rollups["daily"], "It is not to be believed.")


async def _released(place: Place) -> None:
    async with place.client() as client:
        await client.rollups.release(NAME)


async def _changed(place: Place) -> None:
    await place.execute("ALTER TABLE alike DISABLE TRIGGER USER; UPDATE alike SET kind = 'a' WHERE id = 700")


async def _dropped(place: Place) -> None:
    async with place.client() as client:
        await client.rollups.drop(NAME)


STATES: Mapping[Callable[[Place], Awaitable[None]], bool] = {
    _built: True,
    _late: True,
    _refreshed: True,
    _quarantined: False,
    _released: True,
    _changed: False,
    _dropped: False,
}
"""What happens, one after the other, and whether the rollup answers then."""


async def test_whatever_happens_each_is_answered_as_by_itself(place: Place) -> None:
    for happens, answers in STATES.items():
        await happens(place)
        kinds = await compared(place, rolled=answers)
        assert ("rollup" in kinds) is answers, (happens.__name__, kinds)


async def test_what_is_wrong_with_one_is_told_of_it(place: Place) -> None:
    async with place.client() as client:
        await ask(client, asked(FIRST, FIRST + HOUR, "a"))
        with pytest.raises(QueryBrokerError, match="end_time"):
            await ask(client, asked(FIRST + HOUR, FIRST, "a"))
        with pytest.raises(QueryBrokerError, match="NUL"):
            await ask(client, asked(FIRST, FIRST + HOUR, "a\0"))
        with pytest.raises(QueryBrokerError, match="buckets"):
            await ask(client, asked(FIRST.replace(year=1000), FIRST.replace(year=9000), "a"))
