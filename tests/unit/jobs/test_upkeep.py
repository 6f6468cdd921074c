"""Sweeps of a large result store: a page at a time, round and round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from broker.adapters.result_dir import DirectoryResults
from broker.jobs.upkeep import Upkeep


@dataclass
class Keeper:
    """Nothing has expired; ``unwanted`` remembers what it was asked about."""

    asked: list[list[str]] = field(default_factory=list)

    async def expire(self) -> Sequence[Any]:
        return []

    async def purge(self, tombstone_age: float) -> int:
        return 0

    async def unwanted(self, prefixes: Sequence[str]) -> Sequence[str]:
        self.asked.append([*prefixes])
        return [prefix for prefix in prefixes if prefix == "acme/b/1"]


async def test_a_sweep_goes_on_where_the_last_one_ended_and_then_begins_anew(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / "parts/acme" / name / "1").mkdir(parents=True)
    keeper: Any = Keeper()
    upkeep = Upkeep(keeper, DirectoryResults(tmp_path), Random(1), 1.0, page=2)
    for _ in range(4):
        await upkeep.sweep()
    assert keeper.asked == [
        ["acme/a/1", "acme/b/1"],
        ["acme/c/1", "acme/d/1"],
        ["acme/e/1"],
        ["acme/a/1", "acme/c/1"],
    ]
