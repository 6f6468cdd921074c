"""Sets of positions, as the bits of an integer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import pairwise
from operator import or_


def union(sets: Iterable[int]) -> int:
    """What is in any of the sets."""
    return reduce(or_, sets, 0)


def positions(bits: int) -> Iterator[int]:
    """The positions of the bits that are set, ascending."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def fewest(sets: Iterable[int]) -> Iterator[int]:
    """The positions that are in any of the sets: first those in a single one, then those in two, ..."""
    least: list[int] = []
    for bits in sets:
        added = bits
        for i, have in enumerate(least):
            least[i], added = have | added, have & added
        least.append(added)
    for have, more in pairwise([*least, 0]):
        yield from positions(have & ~more)
