"""The cache and the ladder in a broker as users run it: what is given out, to whom, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator

import asyncpg
import grpc
import grpc.aio
import pytest

from querybroker import QueryBrokerError
from querybroker.v1 import admin_service_pb2, answer_pb2, policy_pb2, query_pb2, query_service_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import Connection, temporary_server
from tests.system.cached import (
    COUNT,
    EVENTS,
    LOCK,
    SLOW,
    TRACKED,
    Place,
    Reply,
    as_caller,
    cached_broker,
    kept,
    query,
)

P = policy_pb2
LIVE, FRESH = [answer_pb2.ANSWER_KIND_LIVE], [answer_pb2.ANSWER_KIND_CACHE_FRESH]
TIGHT = {"pools.dashboard.in_flight": 1, "pools.dashboard.queue": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A broker with one seat that the tests of this file share; whoever stops its database starts it again."""
    with (
        temporary_server() as postgres,
        cached_broker(postgres, tmp_path_factory.mktemp("cached"), TIGHT) as found,
    ):
        yield found


@pytest.fixture
async def channel(place: Place) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to it."""
    async with place.channel() as opened:
        yield opened


async def admitted(channel: grpc.aio.Channel) -> int:
    """How many requests had a seat of the dashboards so far."""
    request = admin_service_pb2.GetStateRequest()
    state = (await AdminServiceStub(channel).GetState(request, metadata=as_caller("boss"))).state
    return next(pool.admitted_count for pool in state.pools if pool.name == "dashboard")


async def reason_of(call: Awaitable[Reply]) -> str:
    """Why a call has no answer; its kind when it has one."""
    try:
        reply = await call
    except grpc.aio.AioRpcError as error:
        return QueryBrokerError.from_rpc_error(error).reason
    return reply.kind


async def test_what_was_read_is_fresh_until_something_is_written(
    place: Place, channel: grpc.aio.Channel
) -> None:
    replies: list[Reply] = []
    seats: list[int] = []

    async def held() -> bool:
        seats.append(await admitted(channel))
        replies.append(await place.ask(channel, question=TRACKED))
        return replies[-1].kind == "CACHE_FRESH"

    await eventually(held, "the source has been looked at, and its answer is held")
    reply = replies[-1]
    assert reply.total == EVENTS
    assert await admitted(channel) == seats[-1], "a hit takes no seat"
    assert (reply.status.degraded, reply.walk) == (False, [("CACHE_FRESH", "ANSWERED")])
    assert reply.status.guarantee == answer_pb2.FRESHNESS_GUARANTEE_BOUNDED_STALENESS
    assert reply.status.HasField("guarantee_bound")
    assert reply.trailers["querybroker-answer-kind"] == "cache_fresh"
    assert "querybroker-degraded-reason" not in reply.trailers
    await place.execute("INSERT INTO events VALUES (0, '2023-12-31', 'kind-0', 'acme')")

    async def new() -> bool:
        reply = await place.ask(channel, question=TRACKED)
        assert reply.kind in ("LIVE", "CACHE_FRESH")
        return reply.total == EVENTS + 1

    await eventually(new, "the change has been seen, and the answer is read again")
    await eventually(held, "and held")
    await place.execute("DELETE FROM events WHERE id = 0")


async def test_the_terms_of_a_caller_are_kept(place: Place, channel: grpc.aio.Channel) -> None:
    policy, cases = P.AnswerPolicy, []
    stored = kept(60)  # a dataset whose answers are fresh for an hour
    first = await place.ask(channel, question=stored)
    assert (first.kind, first.total) == ("LIVE", EVENTS)
    for mode, kind in (
        (P.CACHE_MODE_DEFAULT, "CACHE_FRESH"),
        (P.CACHE_MODE_ONLY, "CACHE_FRESH"),
        (P.CACHE_MODE_BYPASS, "LIVE"),
        (P.CACHE_MODE_REVALIDATE, "LIVE"),
    ):
        cases.append((policy(cache_mode=mode), kind))
    none = policy()
    none.max_staleness.seconds = 0
    cases += [
        (none, "LIVE"),
        (policy(accepted_kinds=LIVE), "LIVE"),
        (policy(accepted_kinds=FRESH), "CACHE_FRESH"),
        (policy(consistency=P.CONSISTENCY_SNAPSHOT), "LIVE"),
        (policy(rollup_mode=P.ROLLUP_MODE_FORBID), "CACHE_FRESH"),
        (policy(rollup_mode=P.ROLLUP_MODE_REQUIRE), "POLICY_UNSATISFIABLE"),
    ]
    for terms, expected in cases:
        assert await reason_of(place.ask(channel, question=stored, policy=terms)) == expected, terms
    only = policy(cache_mode=P.CACHE_MODE_ONLY)
    assert await reason_of(place.ask(channel, question=kept(61), policy=only)) == "POLICY_UNSATISFIABLE"
    explain, boss = QueryServiceStub(channel).Explain, as_caller("boss")
    told = await explain(query_service_pb2.ExplainRequest(query=stored), metadata=boss)
    assert told.expected_kind == answer_pb2.ANSWER_KIND_CACHE_FRESH
    assert told.candidates[0].verdict == answer_pb2.LADDER_VERDICT_ANSWERED
    told = await explain(query_service_pb2.ExplainRequest(query=COUNT), metadata=boss)
    assert told.expected_kind == answer_pb2.ANSWER_KIND_LIVE
    assert told.candidates[-1].rung == answer_pb2.LADDER_RUNG_CACHE_STALE
    request = query_service_pb2.ExploreRequest(query=stored)
    events = [e async for e in QueryServiceStub(channel).Explore(request, metadata=as_caller("boss"))]
    assert [event.WhichOneof("event") for event in events] == ["header", "batch", "status"]
    assert events[-1].status.kind == first.status.kind + 1, "what a dashboard has read serves an exploration"
    assert sum(events[1].batch.columns.columns[-1].int64_values.values) == EVENTS


async def test_answers_of_one_caller_never_reach_another(place: Place, channel: grpc.aio.Channel) -> None:
    totals: dict[str, list[int]] = {name: [] for name in ("alice", "bob", "boss", "andy")}
    for _ in range(2):
        for name, found in totals.items():
            found.append((await place.ask(channel, name, question=kept(62, "owned"))).total)
    assert {name: set(found) for name, found in totals.items()} == {
        "alice": {EVENTS * 3 // 4},
        "andy": {EVENTS * 3 // 4},
        "bob": {EVENTS // 4},
        "boss": {EVENTS},
    }
    assert (await place.ask(channel, "bob", question=kept(62, "owned"))).kind == "CACHE_FRESH"


async def test_panels_that_are_held_leave_the_rest_to_one_snapshot(
    place: Place, channel: grpc.aio.Channel
) -> None:
    questions = [kept(65), kept(66, "owned"), kept(67)]

    async def kinds(*asked: query_pb2.Query, **terms: object) -> tuple[list[str], set[str], bool]:
        """Kinds, snapshots of what was read, and whether that is the one of the response."""
        panels = [query_service_pb2.Panel(query=each) for each in asked]
        policy = P.AnswerPolicy(**terms)  # type: ignore[arg-type] # fields of the message
        request = query_service_pb2.DashboardRequest(panels=panels, policy=policy)
        response = await QueryServiceStub(channel).Dashboard(request, metadata=as_caller("boss"), timeout=15)
        found = [
            answer_pb2.AnswerKind.Name(p.status.kind).removeprefix("ANSWER_KIND_") for p in response.panels
        ]
        read = {str(p.status.as_of) for p in response.panels if p.status.kind == answer_pb2.ANSWER_KIND_LIVE}
        told = {str(response.snapshot_time)} if response.HasField("snapshot_time") else set()
        return found, read, told == read

    assert (await kinds(questions[1]))[0] == ["LIVE"]
    found, read, same = await kinds(*questions)
    assert (found, len(read), same) == (["LIVE", "CACHE_FRESH", "LIVE"], 1, True)
    assert await kinds(*questions) == (["CACHE_FRESH"] * 3, set(), True)
    found, read, same = await kinds(*questions, consistency=P.CONSISTENCY_SNAPSHOT)
    assert (found, len(read), same) == (["LIVE"] * 3, 1, True)


async def test_a_stampede_is_one_question_to_the_database(place: Place, channel: grpc.aio.Channel) -> None:
    control = await asyncpg.connect(place.dsn)
    try:
        await control.execute(f"SELECT pg_advisory_lock({LOCK})")
        await place.settled(channel)
        before = await admitted(channel)
        calls = [asyncio.ensure_future(place.ask(channel, question=SLOW, seconds=60)) for _ in range(500)]

        async def waits() -> bool:
            return await waiting(control) == 1

        await eventually(waits, "the question is at the database")
        calls[0].cancel()
        await control.execute(f"SELECT pg_advisory_unlock({LOCK})")
        replies = await asyncio.gather(*calls[1:])
        assert {reply.total for reply in replies} == {1}
        assert {reply.kind for reply in replies} <= {"LIVE", "CACHE_FRESH"}
        assert await admitted(channel) == before + 1

        await control.execute(f"SELECT pg_advisory_lock({LOCK})")
        again = P.AnswerPolicy(cache_mode=P.CACHE_MODE_REVALIDATE)
        call = asyncio.ensure_future(place.ask(channel, question=SLOW, policy=again, seconds=60))
        await eventually(waits, "it is asked again")
        call.cancel()

        async def gone() -> bool:
            return await waiting(control) == 0

        await eventually(gone, "nobody waits any more, so it is ended in the database")
        await control.execute(f"SELECT pg_advisory_unlock({LOCK})")
    finally:
        await control.close()


async def waiting(control: Connection) -> int:
    """Statements that wait for the lock."""
    found = await control.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    )
    return int(found)


async def test_a_full_pool_gives_an_older_answer_and_says_why(
    place: Place, channel: grpc.aio.Channel
) -> None:
    await place.ask(channel)
    control = await asyncpg.connect(place.dsn)
    fresh = P.AnswerPolicy(cache_mode=P.CACHE_MODE_BYPASS, fallback_mode=P.FALLBACK_MODE_FAIL)
    try:
        await control.execute(f"SELECT pg_advisory_lock({LOCK})")
        calls = [
            asyncio.ensure_future(reason_of(place.ask(channel, question=SLOW, policy=fresh, seconds=60)))
            for _ in range(3)
        ]
        # There is one seat and one place to wait, so one of the three is refused.
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        reply = await place.ask(channel)
        assert (reply.kind, reply.status.degraded, reply.status.degradation_level) == ("CACHE_STALE", True, 2)
        assert reply.reasons == ["OVERLOAD_POOL_FULL"]
        assert reply.trailers["querybroker-degraded-reason"] == "overload_pool_full"
        assert reply.walk[-2:] == [("LIVE", "REFUSED"), ("CACHE_STALE", "ANSWERED")]
        assert reply.status.HasField("retry_after")
        assert reply.total == EVENTS
        strict = P.AnswerPolicy(fallback_mode=P.FALLBACK_MODE_FAIL)
        assert await reason_of(place.ask(channel, policy=strict)) == "OVERLOADED"
        assert await reason_of(place.ask(channel, question=kept(63))) == "OVERLOADED"
        contained = await place.ask(channel, question=query("events", measures=["events"]))
        assert (contained.kind, contained.total) == ("CACHE_STALE", EVENTS)
        assert contained.walk[-2:] == [("CACHE_STALE", "NOT_APPLICABLE"), ("CACHE_STALE", "ANSWERED")]
    finally:
        await control.execute(f"SELECT pg_advisory_unlock({LOCK})")
        await control.close()
    assert sorted(await asyncio.gather(*calls)) == ["LIVE", "LIVE", "OVERLOADED"]


async def test_without_its_database_a_broker_gives_what_it_holds(
    place: Place, channel: grpc.aio.Channel
) -> None:
    await place.ask(channel)
    await place.stop()
    seen: set[str] = set()

    async def open_circuit() -> bool:
        reply = await place.ask(channel, seconds=5)
        assert (reply.kind, reply.total) == ("CACHE_STALE", EVENTS)
        assert reply.status.degraded
        seen.update(reply.reasons)
        return reply.reasons == ["CIRCUIT_OPEN"]

    await eventually(open_circuit, "the database is left alone")
    assert seen <= {"CIRCUIT_OPEN", "UPSTREAM_UNAVAILABLE"}
    reply = await place.ask(channel)
    age = reply.status.staleness.ToTimedelta().total_seconds()
    assert age > 0
    assert int(reply.trailers["querybroker-data-age-ms"]) == round(age * 1000)
    assert reply.walk[-2:] == [("LIVE", "FAILED"), ("CACHE_STALE", "ANSWERED")]
    tight = P.AnswerPolicy()
    tight.max_staleness.FromTimedelta(reply.status.staleness.ToTimedelta() / 2)
    assert await reason_of(place.ask(channel, policy=tight)) == "STORE_UNAVAILABLE"
    request = query_service_pb2.ExploreRequest(query=COUNT)
    events = [e async for e in QueryServiceStub(channel).Explore(request, metadata=as_caller("boss"))]
    assert events[-1].status.degraded
    assert events[-1].status.kind == reply.status.kind
    await place.start()

    async def live() -> bool:
        return (await place.ask(channel)).kind == "LIVE"

    await eventually(live, "it is asked again")
