"""Sweeps of a large result store: a page at a time, round and round."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from broker.adapters.result_dir import DirectoryResults
from broker.jobs.upkeep import Upkeep


@dataclass
class Keeper:
    """Nothing has expired; ``unwanted`` remembers what it was asked about."""

    asked: list[list[str]] = field(default_factory=list)
    name: str = "one"

    async def expire(self) -> Sequence[Any]:
        return []

    async def purge(self, tombstone_age: float) -> int:
        return 0

    async def deployment(self) -> str:
        return self.name

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


async def test_the_store_of_another_deployment_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two configurations in one folder have the same folder of results, and each knows its own jobs only."""
    (tmp_path / "parts/acme/b/1").mkdir(parents=True)
    store = DirectoryResults(tmp_path)
    owner, other = Keeper(), Keeper(name="another")
    keepers: list[Any] = [owner, other]
    assert await store.owner("one") == "one"
    await Upkeep(keepers[1], store, Random(1), 1.0).sweep()
    assert other.asked == []
    assert (tmp_path / "parts/acme/b/1").exists()
    assert "deployment one, this one is another" in caplog.text
    await Upkeep(keepers[0], store, Random(1), 1.0).sweep()
    assert owner.asked == [["acme/b/1"]]
    assert not (tmp_path / "parts/acme/b/1").exists()


async def test_of_many_that_ask_at_once_one_has_the_store(tmp_path: Path) -> None:
    store = DirectoryResults(tmp_path / "new")
    names = [f"deployment {i}" for i in range(20)]
    owners = await asyncio.gather(*map(store.owner, names))
    assert len(set(owners)) == 1
    assert set(owners) <= set(names)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["deployment"]
