"""Flights of one process or several, and what they read, on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence

from broker.domain.answer import Answer
from broker.domain.held import Held, Reach
from broker.pipeline.cached import Cached
from broker.pipeline.coalesced import Flights
from broker.pipeline.stage import Group, Outcome
from broker.policy.freshness import Ages, kept
from broker.telemetry.instruments import Telemetry
from tests.support.answering import Source
from tests.support.held import MemoryAnswers, SharedTurns, Untracked
from tests.support.virtual_time import VirtualClock, run


def flights(
    answers: MemoryAnswers | None = None, turns: SharedTurns | None = None, soft: float = 0.0
) -> Flights:
    """Those of a process that shares turns, if it does, and what it holds."""
    clock, telemetry = VirtualClock(), Telemetry.off()
    if answers is None:
        return Flights(clock, telemetry)
    ages = Ages(soft, 3600.0)
    cached = Cached(answers, Untracked(), clock, lambda _: ages, lambda: 1.0, telemetry, 1000)
    return Flights(clock, telemetry, cached, turns)


def reading(
    source: Source, own: MemoryAnswers
) -> Callable[[Group], Coroutine[None, None, Sequence[Outcome]]]:
    """Reads from the source and holds what it reads."""

    async def read(asked: Group) -> Sequence[Outcome]:
        outcomes = await source(asked)
        for each, outcome in zip(asked.questions, outcomes, strict=True):
            assert isinstance(outcome, Answer)
            own.keep(Held(each.key, outcome.table, kept(outcome.status), Reach("flights")), 60.0)
        return outcomes

    return read


def rows(outcomes: Sequence[Outcome]) -> list[int]:
    """The rows of each outcome, -1 for an error."""
    return [outcome.table.row_count if isinstance(outcome, Answer) else -1 for outcome in outcomes]


def on_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """A test on a loop whose time jumps, and which ends with no task left over."""

    def runs() -> None:
        async def main() -> None:
            await test()

        run(main())

    runs.__name__ = test.__name__
    return runs
