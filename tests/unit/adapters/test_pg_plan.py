"""What is read out of EXPLAIN."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.adapters.pg_plan import read_plan

MB = 1 << 20


def node(kind: str, cost: float, rows: int, *children: dict[str, Any], **more: object) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Node Type": kind,
        "Total Cost": cost,
        "Plan Rows": rows,
        "Plan Width": 40,
        **more,
    }
    return {**found, "Plans": list(children)} if children else found


def explained(plan: dict[str, Any], **settings: str) -> str:
    return json.dumps([{"Plan": plan, "Settings": settings}])


def test_every_cause_has_its_own_cost() -> None:
    scans = node("Seq Scan", 100.0, 5000), node("Index Scan", 20.0, 100)
    joined = node("Hash Join", 170.0, 4000, scans[0], node("Hash", 25.0, 100, scans[1]))
    grouped = node("Aggregate", 250.0, 50, joined, Strategy="Hashed")
    found = read_plan(explained(node("Limit", 300.0, 10, node("Sort", 290.0, 50, grouped))))
    assert (found.total_cost, found.rows, found.width, found.statements) == (300.0, 10, 40, 1)
    assert (found.scan_cost, found.join_cost, found.group_cost, found.sort_cost) == (120.0, 50.0, 80.0, 40.0)
    assert (found.read_rows, found.joined_rows) == (5100.0, 5000 + 100 + 100)
    assert (found.grouped_rows, found.sorted_rows) == (4000.0, 50.0)
    assert found.workers == 0


def test_rows_of_a_parallel_part_are_those_of_all_processes() -> None:
    scan = node("Seq Scan", 100.0, 1000)
    partial = node("Aggregate", 120.0, 10, scan, Strategy="Hashed")
    found = read_plan(explained(node("Gather", 140.0, 20, partial, **{"Workers Planned": 2})))
    assert found.workers == 2
    assert found.read_rows == pytest.approx(2400.0), "two workers, and the leader with 0.4 of its time"
    assert found.grouped_rows == pytest.approx(2400.0)
    assert found.memory == 10 * (40 + 24) * 3


def test_memory_is_bounded_by_the_settings_of_the_database() -> None:
    sort = node("Sort", 900.0, 10**7, node("Seq Scan", 100.0, 10**7))
    assert read_plan(explained(sort)).memory == 4 * MB
    assert read_plan(explained(sort, work_mem="16MB")).memory == 16 * MB
    table = node("Aggregate", 900.0, 10**7, node("Seq Scan", 100.0, 10**7), Strategy="Hashed")
    assert read_plan(explained(table, work_mem="1GB")).memory == 10**7 * 64
    assert read_plan(explained(table, work_mem="64kB", hash_mem_multiplier="3")).memory == 3 * 64 * 1024


def test_costs_that_a_limit_cuts_are_never_negative() -> None:
    found = read_plan(explained(node("Sort", 10.0, 5, node("Seq Scan", 100.0, 5000))))
    assert found.sort_cost == 0.0


@pytest.mark.parametrize("text", ["", "{}", "[]", "[{}]", '[{"Plan": {}}]'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises((ValueError, LookupError)):
        read_plan(text)
