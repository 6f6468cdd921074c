"""What is removed stays removed, in whatever order processes hear of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.answer import AnswerKind, AnswerStatus, Exactness, Table
from broker.domain.held import Held, Reach, Selection
from broker.domain.rollup import Span
from broker.domain.values import ResultFormat
from broker.policy.removals import EVERYTHING, MOST, Removals

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MEMORY = 100.0


def at(second: float) -> datetime:
    """An instant."""
    return NOON + timedelta(seconds=second)


def answer(second: float, dataset: str = "a", span: Span | None = None) -> Held:
    """An answer that was read at a second."""
    status = AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, at(second))
    reach = Reach(dataset, ("r",), {} if span is None else {"t": span})
    return Held("key", Table((), 0, ResultFormat.COLUMNS, b""), status, reach)


selections = st.builds(
    Selection,
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "r", "s"]),
    st.none() | st.just(Span(0, 10)),
)
removals = st.lists(st.tuples(selections, st.integers(0, 90).map(at)), max_size=8)


@settings(max_examples=60)
@given(removals, st.permutations(range(8)), st.integers(0, 90), st.sampled_from(["a", "b"]))
def test_order_and_repetition_do_not_matter(
    told: list[tuple[Selection, datetime]], order: list[int], second: int, dataset: str
) -> None:
    one, other = Removals(MEMORY), Removals(MEMORY)
    one.learn(told, at(90))
    for place in order:
        other.learn(told[place : place + 1] * 2, at(90))
    assert one.known == other.known
    held = answer(second, dataset, Span(5, 6))
    expected = any(when >= held.as_of and selection.takes(held) for selection, when in told)
    assert one.removed(held) == expected


def test_only_what_is_new_is_told_again() -> None:
    removals = Removals(MEMORY)
    assert removals.learn([(Selection("a"), at(1))], at(2)) == (Selection("a"),)
    assert removals.learn([(Selection("a"), at(1)), (Selection("a"), at(0))], at(2)) == ()
    assert removals.learn([(Selection("a"), at(3))], at(3)) == (Selection("a"),)
    assert removals.learn([(Selection("b"), at(-200))], at(3)) == ()  # what it removed has ended by itself
    removals.learn([], at(3 + MEMORY + 1))
    assert removals.known == {}


def test_too_many_become_one_of_everything() -> None:
    removals = Removals(MEMORY)
    many = [(Selection("a", span=Span(n, n + 1)), at(n / 10)) for n in range(MOST + 1)]
    assert removals.learn(many, at(90)) == (EVERYTHING,)
    assert removals.removed(answer(5, "b"))
    assert not removals.removed(answer(89, "a"))
