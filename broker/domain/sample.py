"""Block samples as values: how one is drawn, what it says of every group, and what is made of it.

The unit that is drawn is a *block* of the table. Everything that an estimate needs to know of the blocks are sums of
powers of their totals, so a sample of any size comes back as one short row for each group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MOST_GROUPS = 2_000
"""Groups that are told; each has some thirty sums."""
POWERS = 4
"""Highest power of a block's total that is summed: two for the variance, three for the skewness, four for the tails."""


class NoEstimate(StrEnum):
    """Why there is no estimate: the codes of a step of the ladder."""

    MEASURE = "ESTIMATE_MEASURE"
    CALCULATION = "ESTIMATE_CALCULATION"
    HAVING = "ESTIMATE_HAVING"
    NO_MEASURE = "ESTIMATE_NO_MEASURE"
    CHOSEN = "ESTIMATE_CHOSEN"
    GROUPS = "ESTIMATE_GROUPS"
    SOURCE = "ESTIMATE_SOURCE"
    SEALED = "ESTIMATE_SEALED"
    POLICY = "ESTIMATE_POLICY"
    EXACT_CHEAPER = "ESTIMATE_EXACT_CHEAPER"
    TOO_THIN = "ESTIMATE_TOO_THIN"
    TOO_WIDE = "ESTIMATE_TOO_WIDE"
    TIME = "ESTIMATE_TIME"
    BUSY = "ESTIMATE_BUSY"
    NOT_KEPT = "ESTIMATE_NOT_KEPT"


@dataclass(frozen=True, slots=True)
class Draw:
    """Every block is drawn with the probability ``rate``, from 0 to 1; the same ``seed`` draws the same blocks."""

    rate: float
    seed: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How many blocks there are to draw from, and what the planner expects the exact answer to cost, in its units.

    Where the sample has been drawn already, it has about ``kept`` blocks.
    """

    blocks: int
    cost: float
    kept: int | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure of the answer as totals of columns of states: one column, or the ratio of two.

    ``counts`` when the column cannot be negative; ``name`` is the measure's.
    """

    name: str
    above: str
    below: str = ""
    counts: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of states that it needs."""
        return (self.above, self.below) if self.below else (self.above,)


Exponents = tuple[int, int]
"""Powers of the column above and of the one below."""


def exponents(figure: Figure) -> tuple[Exponents, ...]:
    """The products whose sums a figure needs, in the order in which a source gives them."""
    most = POWERS + 1
    if not figure.below:
        return tuple((a, 0) for a in range(1, most))
    return tuple((a, b) for a in range(most) for b in range(most - a) if a + b > 0)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of one figure in one group: the sums over the drawn blocks, by exponents.

    ``above`` and ``below`` count the blocks in which the columns are not zero.
    """

    powers: Mapping[Exponents, float]
    above: int
    below: int = 0


@dataclass(frozen=True, slots=True)
class GroupSums:
    """One group: its key as a source gives it, in how many drawn blocks it has rows, and the sums of each figure."""

    key: tuple[object, ...]
    blocks: int
    sums: tuple[Sums, ...]

    @classmethod
    def of(cls, row: Sequence[object], keys: int, figures: Sequence[Figure]) -> GroupSums:
        """From a row as a source adds it up: its keys, the blocks, and for each figure its products and its counts.

        A sum of nothing, which sources give as null, is zero.
        """
        blocks, rest = row[keys], list(row[keys + 1 :])
        assert isinstance(blocks, int), "a count"
        sums: list[Sums] = []
        for figure in figures:
            products, counts = exponents(figure), len(figure.columns)
            numbers = [float(each) if isinstance(each, float) else 0.0 for each in rest[: len(products)]]
            seen = [each if isinstance(each, int) else 0 for each in rest[len(products) :][:counts]]
            sums.append(Sums(dict(zip(products, numbers, strict=True)), *seen))
            del rest[: len(products) + counts]
        return cls(tuple(row[:keys]), blocks, tuple(sums))


@dataclass(frozen=True, slots=True)
class BlockSums:
    """A sample: ``drawn`` of ``blocks`` blocks, the empty ones included, and every group that was seen in them."""

    blocks: int
    drawn: int
    groups: tuple[GroupSums, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the limits between which the truth lies at the confidence."""

    value: float
    lower: float
    upper: float

    @property
    def relative(self) -> float:
        """Its greater side relative to its value; infinite where that is zero."""
        side = max(self.upper - self.value, self.value - self.lower)
        return side / abs(self.value) if self.value else float("inf")


@dataclass(frozen=True, slots=True)
class KeptRows:
    """The rows of ``drawn`` of ``blocks`` blocks, in a local file: an encoded table in the Arrow format."""

    path: str
    blocks: int
    drawn: int
