"""The request path as a list of stages.

A *handler* answers a group of questions that belong together: the panels of one dashboard, or the one query of an
exploration. A *stage* wraps a handler and adds one concern: it may answer some questions itself, refuse some, and pass
the rest on. Data goes down once and comes back once; the recipes list the stages from the outside in.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from broker.domain.answer import Answer, AnswerKind, LadderStep
from broker.domain.change import Change
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.plan import Plan
from broker.domain.request import CallContext, ExploreEvent, RequestKind
from broker.domain.terms import AnswerPolicy, Consistency, RollupMode
from broker.domain.values import ResultFormat
from broker.domain.work import JobAsk
from broker.pipeline.flow import Flow
from broker.pipeline.routes import Route
from broker.policy.classify import Classified


@dataclass(frozen=True, slots=True)
class Question:
    """One plan under one policy.

    ``ladder`` lists what has been tried for it so far. ``route`` leads to the rollups that may answer it, if any; then
    ``live`` is what it would cost without them. ``key`` names the answer in the cache, and is empty without one.
    """

    id: str
    plan: Plan
    policy: AnswerPolicy
    format: ResultFormat
    classified: Classified
    ladder: tuple[LadderStep, ...] = ()
    route: Route | None = None
    live: Classified | None = None
    key: str = ""

    def without_rollups(self) -> Question | None:
        """The question for the tables alone; None where a rollup is required."""
        if self.policy.rollup is RollupMode.REQUIRE:
            return None
        return replace(self, route=None, classified=self.live or self.classified)

    def as_read(self, kind: AnswerKind) -> Question:
        """The question as it turned out to be read, so that what it took teaches the right prediction."""
        if kind is AnswerKind.LIVE and self.live is not None:
            return replace(self, classified=self.live)
        return self


@dataclass(frozen=True, slots=True)
class Group:
    """Questions that are admitted together and, where they are read live, read from one snapshot.

    The two limits are the caller's, for streams; 0 leaves the server's own. ``job`` is what a stream becomes when its
    deadline comes first, None where it is cancelled; ``flow`` then keeps what it reads.
    """

    context: CallContext
    kind: RequestKind
    questions: tuple[Question, ...]
    consistency: Consistency = Consistency.BOUNDED
    load_group: str = ""
    max_row_count: int = 0
    max_byte_count: int = 0
    job: JobAsk | None = None
    flow: Flow | None = None

    def asking(self, questions: tuple[Question, ...]) -> Group:
        """The group with other questions in place of its own."""
        return _ASKING(self, questions)

    def until(self, deadline: Deadline) -> Group:
        """The group with an earlier deadline."""
        return _WITHIN(self, _UNTIL(self.context, deadline))


_ASKING, _WITHIN = Change(Group, "questions"), Change(Group, "context")
_UNTIL = Change(CallContext, "deadline")

Outcome = Answer | BrokerError
"""What came of a question. An error of one question leaves the others alone."""

Handler = Callable[[Group], Awaitable[Sequence[Outcome]]]
"""Answers every question of a group, in order. An exception means that none of them could be answered."""

Stage = Callable[[Handler], Handler]

StreamHandler = Callable[[Group], AsyncGenerator[ExploreEvent, None]]
"""Streams the answer of a group of one question."""

StreamStage = Callable[[StreamHandler], StreamHandler]


def compose(stages: Sequence[Stage], terminal: Handler) -> Handler:
    """The handler that runs the stages from the first, outermost, to the terminal."""
    handler = terminal
    for stage in reversed(stages):
        handler = stage(handler)
    return handler


def compose_stream(stages: Sequence[StreamStage], terminal: StreamHandler) -> StreamHandler:
    """The same for streams."""
    handler = terminal
    for stage in reversed(stages):
        handler = stage(handler)
    return handler
