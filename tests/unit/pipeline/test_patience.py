"""How long a dashboard waits for a seat while an older answer is at hand, and what it is told then."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import pytest

from broker.domain.answer import Answer, AnswerKind, DegradationReason, LadderStep, Rung, Verdict
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.request import RequestKind
from broker.domain.terms import AnswerPolicy, CacheMode
from broker.domain.values import ResultFormat
from broker.pipeline.admitted import admitted
from broker.pipeline.coalesced import Flights, coalesced
from broker.pipeline.degraded import Degrading, degraded
from broker.pipeline.ladder import Ladder, LowerRung
from broker.pipeline.stage import Group, Handler, Question, compose
from broker.pipeline.stale_cache import StaleCache
from broker.runtime.admission import Admission
from broker.telemetry.instruments import Telemetry
from tests.support.answering import Source, answer, group, question
from tests.support.seats import Recording, ask, hold, shell
from tests.support.virtual_time import VirtualClock, run, virtual
from tests.unit.pipeline.test_cached import CONTEXT, PLAN, World

LEAST = 0.05
NONE = LadderStep(Rung.CACHE_STALE, Verdict.NOT_APPLICABLE, codes=("NOT_HELD",))


@dataclass
class Held:
    """A rung with an answer of this age for all questions but those that it lacks; or that it has lost since."""

    age: float = 3.0
    lacks: tuple[str, ...] = ()
    lost: bool = False
    rung: Rung = Rung.CACHE_STALE
    looks: list[str] = field(default_factory=list)

    def allowed(self, policy: AnswerPolicy) -> bool:
        return policy.cache is CacheMode.DEFAULT

    def at_hand(self, question: Question, _group: Group) -> float | None:
        self.looks.append(question.id)
        return None if question.id in self.lacks else self.age

    async def answer(self, question: Question, _group: Group, _deadline: Deadline) -> Answer | LadderStep:
        if self.lost or question.id in self.lacks:
            return NONE
        return answer(AnswerKind.CACHE_STALE, self.age)


class Pool:
    """One seat, that somebody has for so many seconds, and the path to it."""

    def __init__(self, held: LowerRung, taken: float = 60.0, patience: float = LEAST) -> None:
        self.admission: Admission = shell(Recording(seats=1))
        self.source = Source(0.5)
        clock, telemetry = VirtualClock(), Telemetry.off()
        degrading = Degrading(Ladder([held], clock, telemetry), patience=patience)
        stages = [
            degraded(degrading),
            coalesced(Flights(clock, telemetry)),
            admitted(self.admission, itertools.count()),
        ]
        self.ask: Handler = compose(stages, self.source)
        self.holder = asyncio.create_task(hold(self.admission, ask("holder"), taken))

    async def asked(
        self, asked: Group | None = None, after: float = 0.0
    ) -> tuple[Answer | BrokerError, float]:
        """What came of the first question, and after how long."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(after)
        began = loop.time()
        try:
            found = (await self.ask(asked or group()))[0]
        except BrokerError as error:
            found = error
        return found, loop.time() - began

    async def left(self) -> None:
        """Nobody waits, and the seat is free in the end."""
        assert self.admission.loads()[0].queue_length == 0
        await self.holder
        await self.admission.idle()
        self.admission.close()


@pytest.mark.parametrize(("age", "waits"), [(3.0, LEAST), (100.0, 0.2), (3600.0, 7.2)])
def test_the_wait_is_short_where_an_answer_is_at_hand_and_longer_for_an_old_one(
    age: float, waits: float
) -> None:
    async def main() -> None:
        pool = Pool(Held(age))
        found, seconds = await pool.asked(group(seconds=100.0))
        assert isinstance(found, Answer)
        status = found.status
        assert (status.kind, status.degraded) == (AnswerKind.CACHE_STALE, True)
        assert status.reasons == (DegradationReason.OVERLOAD_POOL_FULL,)
        assert status.limiting_factor == "patience"
        assert status.queue_duration == pytest.approx(waits, abs=1e-3)
        live = next(step for step in status.ladder if step.rung is Rung.LIVE)
        assert (live.verdict, live.codes) == (Verdict.REFUSED, ("QUEUE_TIMEOUT", "patience"))
        assert status.retry_after is not None
        assert seconds == pytest.approx(waits)
        assert not pool.source.asked
        await pool.left()

    run(main())


@virtual
async def test_who_gets_a_seat_in_time_is_answered_live_and_nobody_looks_where_there_is_one_free() -> None:
    held = Held()
    pool = Pool(held, taken=0.03)
    found, seconds = await pool.asked()
    assert isinstance(found, Answer)
    assert (found.status.kind, held.looks) == (AnswerKind.LIVE, ["0"])
    assert seconds == pytest.approx(0.53)
    found, _ = await pool.asked()
    assert isinstance(found, Answer)
    assert (found.status.kind, held.looks) == (AnswerKind.LIVE, ["0"])
    await pool.left()


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        (Held(lacks=("0",)), question()),
        (Held(), question(0, AnswerPolicy(max_staleness=2.9))),
        (Held(), question(0, AnswerPolicy(cache=CacheMode.BYPASS))),
    ],
)
def test_who_has_nothing_else_waits_as_long_as_anybody_may(held: Held, asked: Question) -> None:
    async def main() -> None:
        pool = Pool(held, taken=1.0)
        found, seconds = await pool.asked(group(asked))
        assert isinstance(found, Answer)
        assert found.status.kind is AnswerKind.LIVE
        assert seconds == pytest.approx(1.5)
        await pool.left()

    run(main())


@virtual
async def test_a_panel_without_an_older_answer_lets_its_dashboard_wait() -> None:
    pool = Pool(Held(lacks=("1",)), taken=1.0)
    found, _ = await pool.asked(group(question(0), question(1)))
    assert isinstance(found, Answer)
    assert found.status.kind is AnswerKind.LIVE
    await pool.left()


@virtual
async def test_an_answer_that_is_gone_when_it_is_wanted_costs_nobody_the_live_one() -> None:
    pool = Pool(Held(lost=True), taken=1.0)
    found, seconds = await pool.asked()
    assert isinstance(found, Answer)
    assert found.status.kind is AnswerKind.LIVE
    assert seconds == pytest.approx(1.5)
    await pool.left()


@virtual
async def test_and_where_there_is_no_live_one_either_it_is_the_usual_error() -> None:
    pool = Pool(Held(lost=True))
    found, seconds = await pool.asked(group(seconds=4.0))
    assert isinstance(found, BrokerError)
    assert (found.reason, found.metadata["limiting_factor"]) == (ErrorReason.QUEUE_TIMEOUT, "wait_budget")
    assert seconds > 10 * LEAST
    await pool.left()


@virtual
async def test_who_follows_a_flight_and_leads_the_next_waits_no_longer_than_from_its_own_arrival() -> None:
    pool = Pool(Held())
    found = await asyncio.gather(*(pool.asked(after=0.01 * n) for n in range(12)))
    assert all(isinstance(each, Answer) and each.status.degraded for each, _ in found)
    assert max(seconds for _, seconds in found) == pytest.approx(LEAST)
    await pool.left()


@pytest.mark.parametrize(
    ("kind", "patience"), [(RequestKind.EXPLORE, LEAST), (RequestKind.DASHBOARD, float("inf"))]
)
def test_only_dashboards_are_impatient_and_only_where_that_is_set(kind: RequestKind, patience: float) -> None:
    async def main() -> None:
        pool = Pool(Held(), taken=0.2, patience=patience)
        found, seconds = await pool.asked(group(kind=kind))
        assert isinstance(found, Answer)
        assert found.status.kind is AnswerKind.LIVE
        assert seconds == pytest.approx(0.7)
        await pool.left()

    run(main())


@virtual
async def test_a_look_that_fails_leaves_nobody_in_the_queue() -> None:
    admission = shell(Recording(seats=1))
    holder = asyncio.create_task(hold(admission, ask("1"), 1.0))
    await asyncio.sleep(0)

    def broken() -> float:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await admission.enter(ask("2"), broken)
    assert admission.loads()[0].queue_length == 0
    await holder


@pytest.mark.parametrize(
    ("policy", "passed", "age"),
    [
        (AnswerPolicy(), 20.0, 20.0),
        (AnswerPolicy(max_staleness=10.0), 20.0, None),
        (AnswerPolicy(cache=CacheMode.BYPASS), 20.0, None),
        (AnswerPolicy(accepted_kinds=frozenset({AnswerKind.LIVE})), 20.0, None),
    ],
)
def test_the_cache_has_at_hand_what_this_process_may_give_the_caller(
    policy: AnswerPolicy, passed: float, age: float | None
) -> None:
    async def main() -> None:
        world = World()
        await world.read()
        world.changes.seen += 1
        world.passed(passed)
        asked = question(0, policy)
        key = next(iter(world.cached.answers.held(PLAN.main.dataset.name))).key
        asked = Question("0", PLAN, policy, ResultFormat.COLUMNS, asked.classified, key=key)
        rung = StaleCache(world.cached)
        assert rung.at_hand(asked, Group(CONTEXT, RequestKind.DASHBOARD, (asked,))) == age
        nothing = Question("0", PLAN, policy, ResultFormat.COLUMNS, asked.classified, key="other")
        assert rung.at_hand(nothing, Group(CONTEXT, RequestKind.DASHBOARD, (nothing,))) is None

    run(main())
