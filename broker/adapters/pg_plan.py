"""Reads ``EXPLAIN (FORMAT JSON, SETTINGS)``: what a statement would cost, by cause.

The node's own cost is its total without that of its children. In a parallel part rows are those of one process, so they
are multiplied by the planner's own divisor (each process a whole one, the leader less by 0.3 for every worker it has to
serve: ``get_parallel_divisor`` in PostgreSQL's costsize.c).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.domain.estimate import Estimate

_WORK_MEM, _HASH_FACTOR = 4 << 20, 2.0
"""Defaults of PostgreSQL, which ``SETTINGS`` leaves out."""
_ROW_OVERHEAD = 24
"""Bytes of a tuple's header in hash tables and sorts."""
_UNITS = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
Node = Mapping[str, Any]


@dataclass(slots=True)
class _Sums:
    work_mem: float
    hash_mem: float
    cost: dict[str, float] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=dict)
    workers: int = 0
    memory: float = 0.0

    def add(self, what: str, cost: float, rows: float) -> None:
        self.cost[what] = self.cost.get(what, 0.0) + max(0.0, cost)
        self.rows[what] = self.rows.get(what, 0.0) + rows


def read_plan(text: str) -> Estimate:
    """The estimate of one statement from the text that EXPLAIN gave.

    Raises:
        ValueError: It is no JSON.
        LookupError: It is not a plan.
    """
    explained: Node = json.loads(text)[0]
    settings: Mapping[str, str] = explained.get("Settings", {})
    work_mem = _bytes(settings.get("work_mem", ""), _WORK_MEM)
    sums = _Sums(work_mem, work_mem * float(settings.get("hash_mem_multiplier", _HASH_FACTOR)))
    top: Node = explained["Plan"]
    _walk(top, 0, sums)
    return Estimate(
        total_cost=float(top["Total Cost"]),
        rows=int(top["Plan Rows"]),
        width=int(top["Plan Width"]),
        scan_cost=sums.cost.get("scan", 0.0),
        join_cost=sums.cost.get("join", 0.0),
        sort_cost=sums.cost.get("sort", 0.0),
        group_cost=sums.cost.get("group", 0.0),
        read_rows=sums.rows.get("scan", 0.0),
        joined_rows=sums.rows.get("join", 0.0),
        sorted_rows=sums.rows.get("sort", 0.0),
        grouped_rows=sums.rows.get("group", 0.0),
        workers=sums.workers,
        memory=int(sums.memory),
    )


def _walk(node: Node, workers: int, sums: _Sums) -> None:
    children: list[Node] = node.get("Plans", [])
    planned = int(node.get("Workers Planned", 0))
    sums.workers = max(sums.workers, planned)
    below = planned or workers
    kind = _kind(node["Node Type"])
    entering = sum(float(child["Plan Rows"]) for child in children) * _divisor(below)
    own = float(node["Total Cost"]) - sum(float(child["Total Cost"]) for child in children)
    if kind == "scan":
        sums.add(kind, own, float(node["Plan Rows"]) * _divisor(workers))
    elif kind:
        sums.add(kind, own, entering)
    sums.memory += _memory(node, children, sums) * (1 + workers)
    for child in children:
        _walk(child, below, sums)


def _kind(name: str) -> str:
    if "Scan" in name and name != "Subquery Scan":
        return "scan"
    if "Sort" in name:
        return "sort"
    if "Aggregate" in name or name in {"Group", "Unique", "WindowAgg"}:
        return "group"
    return "join" if "Join" in name or name in {"Nested Loop", "Hash", "Memoize"} else ""


def _memory(node: Node, children: list[Node], sums: _Sums) -> float:
    """Bytes of the node's sort or hash table in one process, which spills beyond the setting."""
    name = node["Node Type"]
    if "Sort" in name or name in {"Hash", "Materialize"}:
        held, bound = children[0], sums.hash_mem if name == "Hash" else sums.work_mem
    elif "Aggregate" in name and node.get("Strategy") in {"Hashed", "Mixed"}:
        held, bound = node, sums.hash_mem
    else:
        return 0.0
    return min(bound, float(held["Plan Rows"]) * (float(held["Plan Width"]) + _ROW_OVERHEAD))


def _divisor(workers: int) -> float:
    return workers + max(0.0, 1.0 - 0.3 * workers) if workers else 1.0


def _bytes(text: str, default: int) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)", text)
    return float(found[1]) * _UNITS[found[2]] if found else float(default)
