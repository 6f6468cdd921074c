"""The stages that keep what the rest reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from broker.domain.answer import Answer, AnswerStatus, Batch
from broker.domain.request import ExploreEvent, ExploreHeader
from broker.pipeline.cached import Cached, keeps
from broker.pipeline.stage import Group, Handler, Outcome, Question, Stage, StreamHandler, StreamStage
from broker.pipeline.whole import table_of


def keeping(cached: Cached) -> Stage:
    """Keeps what the rest reads; it stands next to what reads, so that what is known of changes is not older."""

    def stage(inner: Handler) -> Handler:
        async def handle(group: Group) -> Sequence[Outcome]:
            moments = [cached.moment(question) for question in group.questions]
            outcomes = await inner(group)
            for question, outcome, moment in zip(group.questions, outcomes, moments, strict=True):
                if isinstance(outcome, Answer):
                    cached.keep(question, outcome, moment)
            return outcomes

        return handle

    return stage


def keeping_stream(cached: Cached) -> StreamStage:
    """The same for streams that turn out to be one batch."""

    def stage(inner: StreamHandler) -> StreamHandler:
        async def handle(group: Group) -> AsyncGenerator[ExploreEvent, None]:
            (question,) = group.questions
            moment, single = cached.moment(question), Single(question)
            async with aclosing(inner(group)) as events:
                async for event in events:
                    single.add(event, cached.max_entry)
                    if isinstance(event, AnswerStatus) and (answer := single.answer(event)) is not None:
                        cached.keep(question, answer, moment)
                    yield event

        return handle

    return stage


class Single:
    """What went by of a stream, as long as it is one batch."""

    __slots__ = ("_batch", "_large", "_question")

    def __init__(self, question: Question) -> None:
        self._question = question
        self._batch: Batch | None = None
        self._large = not keeps(question)

    def add(self, event: ExploreEvent, most: int) -> None:
        """Remembers the first batch, and forgets it when it is large or another one comes."""
        if isinstance(event, AnswerStatus | ExploreHeader) or self._large:
            return
        self._large = self._batch is not None or len(event.encoded) > most
        self._batch = None if self._large else event

    def answer(self, status: AnswerStatus) -> Answer | None:
        """The stream as an answer, if it was one batch."""
        if self._batch is None:
            return None
        question = self._question
        return Answer(table_of(self._batch, question.plan.columns, question.format), status)
