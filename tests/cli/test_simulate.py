"""What the command line does with scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli.exits import Exit
from broker.cli.program import run
from broker.simulation.scenario_file import builtin

SCENARIO = """
name: small
about: A little of everything.
seconds: 20
warmup: 5
populations:
  - {name: users, load: 0.5, tenants: 3, work: {median: 0.3}}
expects:
  goodput: [0.3, 0.7]
  late: [null, LATE]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SCENARIO.replace("LATE", "0.1"))
    return file


def test_without_arguments_the_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate"]) == Exit.OK

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(builtin())


def test_a_scenario_is_run_with_seeds_beside_rivals_and_checked(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        str(small),
        "--seeds",
        "3",
        "--rival",
        "fifo",
        "--rival",
        "oracle",
        "--check",
        "--processes",
        "1",
    ]

    assert run(["simulate", *arguments]) == Exit.OK
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.split()}
    assert rows["figure"] == ["expected", "median", "worst", "fifo", "oracle"]
    assert rows["goodput"][:3] == ["0.3", "to", "0.7"]
    assert 0.3 <= float(rows["goodput"][3]) <= 0.7
    assert rows["late"][:2] == ["<=", "0.1"]
    assert "3 seeds, 20 s each" in shown


def test_figures_out_of_their_range_end_the_command_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "strict.yaml"
    file.write_text(SCENARIO.replace("LATE", "-1").replace("[0.3, 0.7]", "[0.99, null]"))

    assert run(["simulate", str(file), "--seeds", "1", "--processes", "1"]) == Exit.FAILED
    assert "2 of the figures are not in the range" in capsys.readouterr().err


def test_a_plot_is_drawn_for_every_scenario(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "plots"

    assert run(["simulate", str(small), "--seeds", "1", "--processes", "1", "--plot", str(folder)]) == Exit.OK
    assert (folder / "small.svg").read_text().lstrip().startswith("<?xml")
    assert "small.svg" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.yaml"], "ordinary, overload"),
        (["overload", "--rival", "magic"], "There is no rival 'magic'"),
        (["overload", "--replay", __file__], "Give either scenarios, or --replay LOG, or"),
        (["--double", __file__, "--set", "a=b"], "name it with --config"),
        (
            ["overload", "--config", __file__, "--speed", "2", "--seeds", "1"],
            "--speed goes with --play LOG, --config goes with --double LOG, and not with scenarios.",
        ),
        (
            ["--double", __file__, "--plot", "plots"],
            "--plot goes with scenarios and --play LOG, and not with --double LOG.",
        ),
    ],
)
def test_wrong_usage_says_what_there_is(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *arguments]) == Exit.USAGE
    assert said in capsys.readouterr().err


def test_every_violation_of_a_scenario_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("name: wrong\nseconds: 1\nwarmup: 2\npopulations: []\n")

    assert run(["simulate", str(file)]) == Exit.USAGE
    shown = capsys.readouterr().err
    assert f"{file}: warmup" in shown
    assert f"{file}: populations" in shown
