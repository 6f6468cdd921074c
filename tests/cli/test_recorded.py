"""What the command line does with the decision log of a broker."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.cli.exits import CommandError, EndedError, Exit
from broker.cli.program import run
from broker.cli.recorded import double_log, play_log, replay_log
from broker.domain.pool import PoolLimits, PoolName
from broker.simulation.scenario import Database, Population, Scenario, Work
from tests.support.recordings import record

LIMITS = PoolLimits(in_flight=100, queue=1000, connections=1, workers=1)
SCENARIO = Scenario(
    "recorded",
    (Population("shop", Work(0.2), PoolName.EXPLORATION, load=0.6, tenants=20, demands=(3, 1)),),
    seconds=30.0,
    warmup=0.0,
    databases=(Database("primary", slots=16.0),),
    pools={PoolName.EXPLORATION: LIMITS},
)
CONFIG = """
datasets:
  orders:
    table: public.orders
    primary_key: {id: int64}
    measures: {orders: count}
database:
  limit: {seats: 4}
auth:
  anonymous: {}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    record(tmp_path / "decisions.log", SCENARIO, seed=1)
    return tmp_path / "decisions.log"


def test_a_log_is_decided_again(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay_log(log)

    assert capsys.readouterr().out.startswith("All decisions are the same: ")


def test_a_log_that_was_changed_ends_with_its_first_difference(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.write_text(
        log.read_text().replace('"expected_wait":0.0,"limit":16', '"expected_wait":0.0,"limit":17')
    )

    with pytest.raises(EndedError) as ended:
        replay_log(log)

    assert ended.value.code is Exit.FAILED
    first, recorded, decided = capsys.readouterr().out.splitlines()
    assert first.endswith(" s, first at decisions.log:2")
    assert recorded.replace("17", "16").removeprefix("recorded") == decided.removeprefix("decided ")


def test_what_breaks_first_is_a_table_and_a_sentence(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    double_log([log])

    lines = capsys.readouterr().out.splitlines()
    head = next(line.split() for line in lines if line.split()[:1] == ["pool"])
    assert head == ["pool", "tenant", "1x", "1.25x", "1.5x", "2x", "3x"]
    whole = next(line for line in lines if line.split()[:2] == ["exploration", "all"])
    assert "0.0%, 0.00 s" in whole
    assert "% seats, " in whole
    assert sum(line.split()[:1] == [f"shop-{n}"] for line in lines for n in range(20)) == 12
    assert any("and 8 tenants that are hit less" in line for line in lines)
    assert any("primary" in line and "16 seats (never full, as configured)" in line for line in lines)
    assert re.match(r"At [\d.]+ times the traffic .*'exploration' breaks first: ", lines[-1])


def test_another_configuration_is_tried_on_the_same_load(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "querybroker.yaml").write_text(CONFIG)

    double_log([log], tmp_path / "querybroker.yaml", ("pools.exploration.wait_fraction=0.1",))

    assert "Already at the recorded traffic the pool 'exploration' breaks first" in capsys.readouterr().out


def test_a_recorded_load_is_played_beside_a_rival(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = play_log([log], 3.0, ["fifo"])

    assert list(results) == ["broker", "fifo"]
    assert results["broker"].scenario.seconds == pytest.approx(11.0, rel=0.05)
    rows = {row[0]: row for row in map(str.split, capsys.readouterr().out.splitlines()) if row}
    assert rows["figure"] == ["figure", "expected", "median", "worst", "fifo"]
    assert float(rows["refused"][1]) > 0.2
    assert rows["recorded:"] == ["recorded:", "the", "load", "of", "a", "decision", "log"]


@pytest.mark.parametrize("act", [replay_log, lambda log: double_log([log])], ids=["replay", "double"])
def test_a_file_that_is_no_log_or_not_there_is_named(tmp_path: Path, act: Callable[[Path], None]) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_text("a,b\n")

    for path, words in ((foreign, "not a decision log"), (tmp_path / "none", "No such file")):
        with pytest.raises(CommandError, match=words) as failed:
            act(path)
        assert failed.value.code is Exit.USAGE
        assert str(path) in str(failed.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--replay", "LOG"], "All decisions are the same"),
        (["--double", "LOG", "--double", "LOG"], "breaks first"),
        (["--play", "LOG", "--speed", "2", "--rival", "codel", "--plot", "DIR"], "recorded.svg"),
    ],
)
def test_the_command_takes_logs(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    places = {"LOG": str(log), "DIR": str(tmp_path / "plots")}

    assert run(["simulate", *(places.get(each, each) for each in arguments)]) == Exit.OK
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--replay", "LOG", "--play", "LOG"],
        ["--double", "LOG", "--set", "server.port=1"],
        ["--replay", "LOG", "--config", "LOG"],
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(log: Path, arguments: list[str]) -> None:
    assert run(["simulate", *(str(log) if each == "LOG" else each for each in arguments)]) == Exit.USAGE
