"""A log whose file was full goes on in the next one, and is read as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from broker.cli.render.outlook import replay_text
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.events import Configuration, Entry, Lost, Ticked
from broker.policy.admission.record import LogError, encode, encode_header
from broker.simulation import replay
from broker.simulation.logfile import opened
from broker.simulation.scenario import Population, Scenario, Work
from tests.support.recordings import record

CONFIGURATION = Configuration({PoolName.JOB: PoolLimits(1, 1, 1, 1)}, seed=1, monotonic=5.0)


def tick(number: int) -> Entry:
    return Entry(float(number), Ticked())


def write(path: Path, *entries: Entry, configuration: Configuration = CONFIGURATION) -> None:
    path.write_text(encode_header(configuration) + "".join(map(encode, entries)))


def places(path: Path) -> Sequence[str]:
    with opened(path) as (_, lines):
        return [line.place for line in lines]


def test_the_file_that_was_full_comes_before_the_one_that_followed(tmp_path: Path) -> None:
    write(tmp_path / "log.1", tick(1), tick(2))
    write(tmp_path / "log", Entry(5.0, Lost(2)), tick(3))

    assert places(tmp_path / "log") == ["log.1:2", "log.1:3", "log:3"]
    assert places(tmp_path / "log.1") == ["log.1:2", "log.1:3"]


def test_what_was_before_both_files_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "log.1", Entry(5.0, Lost(7)), tick(8))
    write(tmp_path / "log", Entry(5.0, Lost(8)), tick(9))

    assert places(tmp_path / "log") == ["log.1:2", "log.1:3", "log:3"]
    assert replay_text(replay.run(tmp_path / "log")).startswith("Events are missing before log.1:2: ")


def test_events_that_are_in_neither_file_are_a_gap(tmp_path: Path) -> None:
    write(tmp_path / "log.1", tick(1))
    write(tmp_path / "log", Entry(5.0, Lost(4)), tick(5))

    replayed = replay.run(tmp_path / "log")

    assert (replayed.events, replayed.gap) == (1, "log:2")
    assert "Events are missing before log:2" in replay_text(replayed)


@pytest.mark.parametrize("kept", ["another start", "no log", "nothing"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, kept: str) -> None:
    write(tmp_path / "log", tick(1))
    if kept == "another start":
        write(tmp_path / "log.1", tick(0), configuration=replace(CONFIGURATION, seed=2))
    elif kept == "no log":
        (tmp_path / "log.1").write_text("something else")

    assert places(tmp_path / "log") == ["log:2"]


def test_a_log_in_two_files_is_decided_again_and_is_one_load(tmp_path: Path) -> None:
    scenario = Scenario("two", (Population("all", Work(0.3), load=1.5),), seconds=10.0, warmup=0.0)
    record(tmp_path / "whole", scenario, seed=1)
    head, *lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    half = len(lines) // 2
    (tmp_path / "log.1").write_text(head + "".join(lines[:half]))
    (tmp_path / "log").write_text(head + encode(Entry(0.0, Lost(half))) + "".join(lines[half:]))

    replayed = replay.run(tmp_path / "log")

    assert (replayed.difference, replayed.gap, replayed.events) == (None, "", len(lines))
    assert replay.load(tmp_path / "log") == replay.load(tmp_path / "whole")


def test_a_foreign_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("something else")

    with pytest.raises(LogError, match="not a decision log"), opened(tmp_path / "log"):
        pass
