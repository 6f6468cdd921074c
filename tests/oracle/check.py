"""Compares a broker's answers with the oracle's, and says what is wrong so that it can be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from google.protobuf import text_format

from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from tests.oracle.ask import Answered, Asker, Refusal
from tests.oracle.cells import AmbiguousError
from tests.oracle.choosing import Seeded
from tests.oracle.compare import SketchTally, difference
from tests.oracle.evaluate import evaluate
from tests.oracle.expected import Expected
from tests.oracle.generate import QuerySpace, features
from tests.oracle.smaller import smallest
from tests.oracle.zones import micros

BATCH = 20
FORMATS = (s.RESULT_FORMAT_COLUMNS, s.RESULT_FORMAT_ARROW)
MAX_ROWS = 5_000
"""Larger answers are not asked for: they say little more and take long."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query over a space and its expected answer."""

    space: QuerySpace
    query: q.Query
    expected: Expected


@dataclass(slots=True)
class Drawing:
    """Draws the questions of a seed; counts those passed over because two answers are right, or they are too large."""

    spaces: Sequence[QuerySpace]
    seed: int
    ambiguous: int = 0
    large: int = 0

    def questions(self) -> Iterator[Question]:
        """Endless questions with answers; the first space is asked most."""
        chooser = Seeded(self.seed)
        while True:
            space = self.spaces[0] if chooser.chance(85) else chooser.choice(self.spaces)
            query = space.query(chooser)
            try:
                expected = evaluate(query, space.model, space.now)
            except AmbiguousError:
                self.ambiguous += 1
                continue
            if len(expected.rows) > MAX_ROWS:
                self.large += 1
                continue
            yield Question(space, query, expected)

    def take(self, count: int) -> list[Question]:
        """So many questions, always the same ones."""
        return list(islice(self.questions(), count))


@dataclass(slots=True)
class Checker:
    """Checks answers of one broker."""

    asker: Asker
    tally: SketchTally = field(default_factory=SketchTally)

    async def dashboard(
        self, questions: Sequence[Question], format_: s.ResultFormat.ValueType = s.RESULT_FORMAT_COLUMNS
    ) -> list[str | None]:
        """What is wrong with the answer of each question, asked together as panels."""
        answers = await self.asker.dashboard([question.query for question in questions], format_)
        return [self.wrong(question, answer) for question, answer in zip(questions, answers, strict=True)]

    async def explore(
        self, question: Question, format_: s.ResultFormat.ValueType = s.RESULT_FORMAT_COLUMNS
    ) -> str | None:
        """What is wrong with the answer of a question as an exploration."""
        return self.wrong(question, await self.asker.explore(question.query, format_))

    def wrong(self, question: Question, answer: Answered) -> str | None:
        """What is wrong with an answer, or None."""
        if isinstance(answer, Refusal):
            return f"refused: {answer.code} {answer.message}"
        found = difference(question.expected, answer, self.tally)
        if found is not None and question.query.time.HasField("relative"):
            # The current day may have ended since the expected answer was computed.
            now = micros(datetime.now(UTC))
            found = difference(evaluate(question.query, question.space.model, now), answer)
        return found

    async def report(self, question: Question, wrong: str) -> str:
        """The smallest query that goes wrong in the same manner, as text, and what is wrong with it."""
        kind, space = _kind(wrong), question.space

        async def fails(query: q.Query) -> str | None:
            try:
                smaller = Question(space, query, evaluate(query, space.model, space.now))
            except Exception:  # noqa: BLE001 - most edits leave something that is no valid query
                return None
            still = await self.explore(smaller)
            return still if still is not None and _kind(still) == kind else None

        if await fails(question.query) is None:
            return f"{text_format.MessageToString(question.query)}\n(only among other panels) {wrong}"
        query, what = await smallest(question.query, wrong, fails)
        return f"{text_format.MessageToString(query)}\n{what}"


async def checked(
    checker: Checker, drawing: Drawing, count: int
) -> AsyncGenerator[tuple[Sequence[Question], Sequence[str | None]]]:
    """Asks so many questions in batches: most as panels of dashboards, every fifth batch one by one, half in Arrow.

    The oracle computes the next batch while the broker answers this one. Yields each batch with what was wrong.
    """
    drawn = drawing.questions()

    def draw(left: int) -> list[Question]:
        return list(islice(drawn, max(0, min(BATCH, left))))

    following = asyncio.create_task(asyncio.to_thread(draw, count))
    asked = number = 0
    try:
        while batch := await following:
            asked, number = asked + len(batch), number + 1
            following = asyncio.create_task(asyncio.to_thread(draw, count - asked))
            if number % 5:
                yield batch, await checker.dashboard(batch, FORMATS[number % 2])
            else:
                yield (
                    batch,
                    [await checker.explore(question, FORMATS[i % 2]) for i, question in enumerate(batch)],
                )
    finally:
        await asyncio.wait([following])


def _kind(wrong: str) -> str:
    """Refusals with different codes are different faults; wrong answers may change on the way."""
    return " ".join(wrong.split()[:2]) if wrong.startswith("refused") else ""


def by_feature(questions: Sequence[Question], wrongs: Sequence[str | None]) -> dict[str, tuple[int, int]]:
    """Questions and mismatches by feature of the query."""
    found: dict[str, tuple[int, int]] = {}
    for question, wrong in zip(questions, wrongs, strict=True):
        for name in features(question.query):
            asked, failed = found.get(name, (0, 0))
            found[name] = (asked + 1, failed + (wrong is not None))
    return found
