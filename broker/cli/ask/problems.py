"""What is wrong with a question, found before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


class UnreadableError(ValueError):
    """One part of a question cannot be read; the text says what to write instead."""


class QuestionError(Exception):
    """A question that cannot be sent; ``problems`` are pairs of the place in the question and what is wrong there."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{place}: {text}" if place else text for place, text in self.problems))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint at the nearest known name, or at all of them."""
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
