"""What is believed of a backend: how many seats it runs at full speed, and by how much predictions are wrong.

Either makes queries take longer than predicted, and one reading cannot tell them apart. But they differ in what follows
when more or fewer queries run: beyond its capacity C a shared processor slows all of them down in proportion, below it
none. So both are estimated together, as probabilities of cells of a grid (a histogram filter; S. Thrun, W. Burgard,
D. Fox, "Probabilistic Robotics", 2005, section 4.1)::

    stretch of queries beside n seats in use  =  bias + slope x min(0, ln C - ln n)  +  scatter of predictions

Every batch of ended queries makes the cells that explain it likelier, the more the better predictions are. Time makes
all of them a little less sure: now and then a backend loses half of its capacity, or finds it again. That is why a
limit set by this belief is steady where nothing changes, whatever predictions scatter, and falls within a few batches
where something does; and why it looks for more seats from time to time, the sooner the less is known.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from copy import copy

CELL = 0.06
"""Width of a cell in ln C."""
NOMINAL_SPREAD, ANYTHING = 0.5, 0.02
"""Before there is evidence, C is about the nominal limit, so far in ln C; a cell is at least so likely as a part of the
likeliest one."""
WIDEST = 16.0
"""No more than so many times the nominal limit, or so small a part of it, is thought of."""
BIASES = tuple(0.09 * step for step in range(-6, 7))
BIAS_SPREAD, ANY_BIAS = 0.15, 0.003
"""Before there is evidence, the bias is about nothing, so far; and at least so likely."""
SLOPE = 1.2
"""Beyond the capacity queries slow down a little more than in proportion: many of them are in each other's way."""
CHANGES_EVERY = 50.0
"""Seconds in which the capacity becomes another one, on average: it does not, but whoever is too sure of what it was
looks for more too seldom."""
DRIFT, BIAS_DRIFT = 0.005, 0.0025
"""Part of a cell, and of a bias, that goes to either neighbour in a second."""
UNMODELLED = 0.05
"""What a batch may be off by beside chance: no database is quite like this model."""
OUTLIER = 1e-4
"""No batch makes a cell less likely than by this factor."""

Grid = list[list[float]]
"""A row for each bias, a cell for each capacity; the sum is 1."""


class Belief:
    """Probabilities of capacity and bias for a backend of so many nominal seats, within the bounds of its limit."""

    def __init__(self, nominal: float, floor: float, ceiling: float) -> None:
        low = math.log(max(1.0, min(floor, nominal / WIDEST)))
        high = math.log(max(nominal, min(ceiling, nominal * WIDEST)))
        self._logs = [low + CELL * step for step in range(int((high - low) / CELL) + 2)]
        middle = math.log(nominal)
        self._first = _normalised(
            [math.exp(-0.5 * ((log - middle) / NOMINAL_SPREAD) ** 2) + ANYTHING for log in self._logs]
        )
        self._first_bias = _normalised(
            [math.exp(-0.5 * (bias / BIAS_SPREAD) ** 2) + ANY_BIAS for bias in BIASES]
        )
        self._grid: Grid = _outer(self._first_bias, self._first)

    @property
    def bias(self) -> float:
        """By how much stretches are off on an idle backend, on average over what is thought possible."""
        return sum(bias * weight for bias, weight in zip(BIASES, map(sum, self._grid), strict=True))

    def capacity(self, share: float) -> float:
        """Seats such that the capacity is at most as many, with a probability of ``share``."""
        below = 0.0
        for log, weight in zip(self._logs, _columns(self._grid), strict=True):
            if below + weight >= share:
                return math.exp(log + ((share - below) / weight - 0.5) * CELL)
            below += weight
        return math.exp(self._logs[-1])

    def expected(self, load: float) -> float:
        """Stretch of queries beside exp(``load``) seats in use."""
        return self.bias + SLOPE * min(0.0, math.log(self.capacity(0.5)) - load)

    def age(self, seconds: float) -> None:
        """So much time has passed: the capacity may have become another one, the predictions a little different."""
        jump, part = min(0.5, seconds / CHANGES_EVERY), min(0.25, BIAS_DRIFT * seconds)
        grid, kept = self._grid, 1.0 - 2.0 * part
        mixed = [
            [kept * cell + part * (a + b) for cell, a, b in zip(row, before, after, strict=True)]
            for row, before, after in zip(grid, grid[:1] + grid[:-1], grid[1:] + grid[-1:], strict=True)
        ]
        self._grid = [_spread(row, min(0.25, DRIFT * seconds), jump, self._first) for row in mixed]

    def observe(self, stretch: float, load: float, error: float, *, contended: bool = False) -> None:
        """Queries beside exp(``load``) seats in use had this ``stretch``, known up to the standard ``error``.

        With ``contended``, the backend says itself that queries are in each other's way: then they are as slow as its
        capacity makes them beside predictions that are off by what was thought, of which nothing is learned.
        """
        known = self.bias
        scale, far = -0.5 / (error * error + UNMODELLED * UNMODELLED), 5.0 * (error + UNMODELLED)
        delays = [SLOPE * (log - load) for log in self._logs if log < load]
        free = len(self._logs) - len(delays)
        exp = math.exp
        grid: Grid = []
        for bias, row in zip(BIASES, self._grid, strict=True):
            rest = stretch - (known if contended else bias)
            near = bisect_left(delays, rest - far)
            chances = [
                *([OUTLIER] * near),
                *[exp(scale * (rest - delay) ** 2) + OUTLIER for delay in delays[near:]],
                *([exp(scale * rest * rest) + OUTLIER] * free),
            ]
            likely = [cell * chance for cell, chance in zip(row, chances, strict=True)]
            kept = sum(row) / sum(likely) if contended else 1.0
            grid.append([kept * cell for cell in likely])
        total = sum(map(sum, grid))
        self._grid = [[cell / total for cell in row] for row in grid]

    def restarted(self) -> Belief:
        """Where conditions have changed: the capacity may be anything again, what is known of the bias stays."""
        fresh = copy(self)
        fresh._grid = _outer([sum(row) for row in self._grid], self._first)  # noqa: SLF001 - one of its own kind
        return fresh

    def forget_bias(self, part: float) -> None:
        """The speed of an idle backend was measured: what was believed of the bias counts so much less."""
        columns = _columns(self._grid)
        self._grid = [
            [(1.0 - part) * cell + part * weight * column for cell, column in zip(row, columns, strict=True)]
            for row, weight in zip(self._grid, self._first_bias, strict=True)
        ]


def _spread(row: Sequence[float], part: float, jump: float, first: Sequence[float]) -> list[float]:
    stays, moves, jumps = (1.0 - jump) * (1.0 - 2.0 * part), (1.0 - jump) * part, jump * sum(row)
    return [
        stays * cell + moves * (below + above) + jumps * anew
        for cell, below, above, anew in zip(row, [row[0], *row[:-1]], [*row[1:], row[-1]], first, strict=True)
    ]


def _columns(grid: Grid) -> list[float]:
    return [sum(column) for column in zip(*grid, strict=True)]


def _normalised(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [weight / total for weight in weights]


def _outer(rows: Sequence[float], columns: Sequence[float]) -> Grid:
    return [[row * column for column in columns] for row in rows]
