"""Where a generator's choices come from: a seed, for speed, or Hypothesis, which can shrink them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Chooser(Protocol):
    """Makes choices. Earlier items and smaller numbers are the simpler ones."""

    def integer(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included."""
        ...

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        ...

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred cases."""
        ...


class Seeded:
    """Choices of a seed: the same ones for the same seed on every machine."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def choice(self, items: Sequence[T]) -> T:
        return items[self._random.randrange(len(items))]

    def chance(self, percent: int) -> bool:
        return self._random.randrange(100) < percent


class Drawn:
    """Choices of Hypothesis."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def choice(self, items: Sequence[T]) -> T:
        return items[self._draw(st.integers(0, len(items) - 1))]

    def chance(self, percent: int) -> bool:
        return self._draw(st.integers(0, 99)) >= 100 - percent


def subset(chooser: Chooser, items: Sequence[T], low: int, high: int) -> list[T]:
    """From ``low`` to ``high`` different items, in random order; as many as there are when there are fewer."""
    left, chosen = list(items), []
    for _ in range(min(len(left), chooser.integer(low, high))):
        item = chooser.choice(left)
        left.remove(item)
        chosen.append(item)
    return chosen
