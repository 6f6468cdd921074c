"""Asks questions about zones as dashboards, and counts what the answers are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from querybroker import Client, Dashboard, QueryBrokerError, policy
from querybroker.v1 import answer_pb2, query_service_pb2
from tests.bench.parts.zone_clocks import FIRST
from tests.bench.parts.zone_questions import Question, buckets, difference, unchanged
from tests.bench.parts.zone_rows import BEYOND, QUARTER, Rows
from tests.oracle.zones import DAY, SECOND, ZoneClock, micros

HOUR = 3600 * SECOND
PANELS = 64
ASKERS = 3
SECONDS = 120
UTC = ZoneClock([micros(FIRST - 2 * BEYOND)], [0])


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and with which of the others it is compared."""

    question: Question
    live: bool = False
    hourly: bool = False

    def panels(self) -> dict[str, query_service_pb2.Panel]:
        """From quarters of an hour, live, and from hours."""
        found = {"rolled": self.question.panel("require")}
        if self.live:
            found["live"] = self.question.panel("forbid")
        if self.hourly:
            found["hours"] = self.question.panel("require", "hours")
        return found


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
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def add(self, asked: Asked, answers: Dashboard, place: int) -> None:
        """Compares the answers of one question."""
        question, truth = asked.question, asked.question.truth(self.rows)
        fits = question.fits(QUARTER)
        error = answers.errors.get(f"rolled{place}")
        if error is not None:
            self._refuse(question, error, expected=not fits)
        else:
            self._rolled(question, answers, place, fits=fits)
        if asked.live:
            self.live += 1
            self._compare(f"live: {question}", difference(buckets(answers[f"live{place}"]), truth))
        if asked.hourly:
            self._hourly(question, answers, place)

    def _rolled(self, question: Question, answers: Dashboard, place: int, *, fits: bool) -> None:
        answer = answers[f"rolled{place}"]
        kind = answer_pb2.AnswerKind.Name(answer.status.kind).removeprefix("ANSWER_KIND_").lower()
        self.kinds[f"{question.grain}: {kind}"] += 1
        found, truth = buckets(answer), question.truth(self.rows)
        self.rolled += 1
        self._compare(f"{kind}: {question}", difference(found, truth))
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
            found = buckets(answers[f"hours{place}"])
            self._compare(f"hours: {question}", difference(found, question.truth(self.rows)))
        elif error is not None and not question.fits(HOUR) and "by_hour: TZ" in error.message:
            self.hourly_refused += 1
        else:
            self.sources.append(f"hours: {question}: {error or 'answered'}")

    def _compare(self, what: str, found: str) -> None:
        self.comparisons += 1
        if found:
            self.wrong.append(f"{what}: {found}")


async def ask(address: str, asked: Sequence[Asked], tally: Tally) -> None:
    """Asks everything, in dashboards that are as large as may be."""
    waiting = iter(_dashboards(asked))

    async def asker(client: Client) -> None:
        for each in waiting:
            panels = {
                f"{side}{i}": panel for i, one in enumerate(each) for side, panel in one.panels().items()
            }
            answers = await client.dashboard(panels, policy=policy(partial="allow"), timeout=SECONDS)
            for i, one in enumerate(each):
                tally.add(one, answers, i)

    async with Client(address) as client, asyncio.TaskGroup() as group:
        for _ in range(ASKERS):
            group.create_task(asker(client))


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
