"""The planner's view of a question, as numbers that are the same for every store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the planner expects of all statements of a plan together, without running any.

    Costs are in the planner's units: the total, and by what causes it (reading, joining, sorting, grouping). ``rows``
    and ``width`` (bytes) are those of the largest result. ``read_rows`` leave the scans, ``joined_rows`` enter joins,
    ``sorted_rows`` and ``grouped_rows`` enter sorts and aggregations. ``workers`` are processes planned beside the
    first, at most in any statement; ``memory`` is the largest sum of hash tables and sorts of one statement, in bytes.
    """

    total_cost: float
    rows: int
    width: int
    scan_cost: float = 0.0
    join_cost: float = 0.0
    sort_cost: float = 0.0
    group_cost: float = 0.0
    read_rows: float = 0.0
    joined_rows: float = 0.0
    sorted_rows: float = 0.0
    grouped_rows: float = 0.0
    statements: int = 1
    workers: int = 0
    memory: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        """Both, one after the other on one connection: costs and rows add up, peaks do not."""
        larger = self if self.rows >= other.rows else other
        return Estimate(
            self.total_cost + other.total_cost,
            larger.rows,
            larger.width,
            self.scan_cost + other.scan_cost,
            self.join_cost + other.join_cost,
            self.sort_cost + other.sort_cost,
            self.group_cost + other.group_cost,
            self.read_rows + other.read_rows,
            self.joined_rows + other.joined_rows,
            self.sorted_rows + other.sorted_rows,
            self.grouped_rows + other.grouped_rows,
            self.statements + other.statements,
            max(self.workers, other.workers),
            max(self.memory, other.memory),
        )
