"""Asks questions about zones as dashboards, and counts what the answers are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from querybroker import Client, Dashboard, QueryBrokerError, Result, policy
from querybroker.v1 import answer_pb2, query_service_pb2
from tests.bench.parts.zone_clocks import FIRST
from tests.bench.parts.zone_questions import Question, buckets, difference, unchanged
from tests.bench.parts.zone_rows import BEYOND, QUARTER, Bucket, Rows
from tests.oracle.zones import DAY, SECOND, ZoneClock, micros

HOUR = 3600 * SECOND
PANELS = 64
ASKERS = 2
SECONDS, TRIES = 120, 20
UTC = ZoneClock([micros(FIRST - 2 * BEYOND)], [0])


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the sides that answer it: ``rolled`` from quarters of an hour, ``live``, or from ``hours``."""

    question: Question
    sides: tuple[str, ...]

    def panels(self) -> dict[str, query_service_pb2.Panel]:
        """The question to every side."""
        given = {
            "rolled": ("require", "quarters"),
            "live": ("forbid", "quarters"),
            "hours": ("require", "hours"),
        }
        return {side: self.question.panel(*given[side]) for side in self.sides}


@dataclass(slots=True)
class Tally:
    """What came of the questions. ``wrong`` are answers that are not the truth, ``sources`` those from elsewhere."""

    rows: Rows
    comparisons: int = 0
    rolled: int = 0
    live: int = 0
    refused: int = 0
    control: int = 0
    control_differs: int = 0
    utc_differs: int = 0
    hourly_refused: int = 0
    hourly_answered: int = 0
    asked_again: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def add(self, asked: Asked, answers: Dashboard, place: int) -> None:
        """Compares the answers of one question."""
        question = asked.question
        if "rolled" in asked.sides:
            fits, error = question.fits(QUARTER), answers.errors.get(f"rolled{place}")
            if error is not None:
                self._refuse(question, error, expected=not fits)
            else:
                self._rolled(question, answers[f"rolled{place}"], fits=fits)
        if "live" in asked.sides:
            self.live += 1
            self._compare(f"live: {question}", answers[f"live{place}"], question)
        if "hours" in asked.sides:
            self._hourly(question, answers, place)

    def _rolled(self, question: Question, answer: Result, *, fits: bool) -> None:
        kind = answer_pb2.AnswerKind.Name(answer.status.kind).removeprefix("ANSWER_KIND_").lower()
        self.kinds[f"{question.grain}: {kind}"] += 1
        self.rolled += 1
        found = self._compare(f"{kind}: {question}", answer, question)
        if not fits or answer.status.kind not in question.kinds():
            parts = [f"{part.source_name} {part.interval}" for part in answer.status.parts]
            self.sources.append(f"{kind}: {question}: {parts}")
        change = question.change
        if question.grain == "day" and (change.after - change.before) % DAY:
            values = [bucket[1:] for bucket in found]
            still = question.truth(self.rows, unchanged(change))
            self.control += 1
            self.control_differs += values != [bucket[1:] for bucket in still]
            utc = self.rows.buckets(UTC, question.low, question.high, "day", empty=question.gap_fill)
            self.utc_differs += values != [bucket[1:] for bucket in utc]

    def _refuse(self, question: Question, error: QueryBrokerError, *, expected: bool) -> None:
        if expected and error.reason == "POLICY_UNSATISFIABLE" and "by_quarter: GRAIN" in error.message:
            self.refused += 1
        else:
            self.sources.append(f"refused: {question}: {error}")

    def _hourly(self, question: Question, answers: Dashboard, place: int) -> None:
        """The control: hours answer where every bucket begins with an hour, and are refused as TZ elsewhere."""
        error = answers.errors.get(f"hours{place}")
        if error is None and question.fits(HOUR):
            self.hourly_answered += 1
            self._compare(f"hours: {question}", answers[f"hours{place}"], question)
        elif error is not None and not question.fits(HOUR) and "by_hour: TZ" in error.message:
            self.hourly_refused += 1
        else:
            self.sources.append(f"hours: {question}: {error or 'answered'}")

    def _compare(self, what: str, answer: Result, question: Question) -> list[Bucket]:
        self.comparisons += 1
        found = buckets(answer)
        if different := difference(found, question.truth(self.rows)):
            self.wrong.append(f"{what}: {different}")
        return found


async def ask(address: str, asked: Sequence[Asked], tally: Tally) -> None:
    """Asks everything, in dashboards that are as large as may be."""
    waiting = iter(_dashboards(asked))

    async def asker(client: Client) -> None:
        for each in waiting:
            panels = {
                f"{side}{i}": panel for i, one in enumerate(each) for side, panel in one.panels().items()
            }
            answers = await _answered(client, panels, tally)
            for i, one in enumerate(each):
                tally.add(one, answers, i)

    async with Client(address) as client, asyncio.TaskGroup() as group:
        for _ in range(ASKERS):
            group.create_task(asker(client))


async def _answered(client: Client, panels: Mapping[str, query_service_pb2.Panel], tally: Tally) -> Dashboard:
    """The dashboard's answers; while the broker has no room for it, it is asked again when the broker says."""
    tries = 0
    while True:
        try:
            answers = await client.dashboard(panels, policy=policy(partial="allow"), timeout=SECONDS)
        except QueryBrokerError as error:
            busy = error
        else:
            full = [error for error in answers.errors.values() if error.retryable]
            if not full:
                return answers
            busy = full[0]
        tries += 1
        if not busy.retryable or tries == TRIES:
            raise busy
        tally.asked_again += 1
        await asyncio.sleep(busy.retry_after or 1.0)


def _dashboards(asked: Sequence[Asked]) -> list[list[Asked]]:
    found: list[list[Asked]] = [[]]
    room = PANELS
    for one in asked:
        needed = len(one.panels())
        if needed > room:
            found.append([])
            room = PANELS
        found[-1].append(one)
        room -= needed
    return found
