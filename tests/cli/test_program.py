"""The program as a whole: its help, its start, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from broker.cli.exits import Exit
from broker.cli.program import COMMANDS, broker
from tests.support.cli import environment, run_broker
from tests.support.server import ROOT

HEAVY = {
    *("asyncpg", "grpc", "opentelemetry", "polars", "pyarrow"),
    *("pydantic", "querybroker.v1", "rich", "sqlglot", "uvloop"),
}
PROGRAM = """
import json, sys
from broker.cli.program import run
run(sys.argv[1:])
print(json.dumps(list(sys.modules)))
"""
NAMES = [name for section in COMMANDS.values() for name in section]


def imported_by(*arguments: str) -> set[str]:
    """The heavy packages that a command line imports."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return HEAVY & set(json.loads(result.stdout.splitlines()[-1]))


def test_help_and_version_import_nothing_heavy() -> None:
    assert imported_by("--help") == set()
    assert imported_by("--version") == set()


def test_help_of_a_command_does_not_import_what_its_run_needs() -> None:
    assert imported_by("explore", "--help") == set()
    assert imported_by("serve", "--help") == set()
    assert imported_by("demo", "--help") == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_there_with_help_that_says_what_it_does(name: str) -> None:
    context = click.Context(broker)
    command = broker.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert len(command.get_short_help_str(200)) > 20
    shown = command.get_help(click.Context(command))
    assert "\\b" not in shown
    examples = [line.strip() for line in (command.help or "").splitlines() if line.startswith("  broker ")]
    assert set(examples) <= {line.strip() for line in shown.splitlines()}  # each on a line of its own
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_help_names_every_command_and_every_exit_code() -> None:
    shown = run_broker("--help").stdout
    assert all(f"  {name} " in shown for name in NAMES)
    assert all(f" {code.value} " in shown.replace("\n", " ") for code in Exit)


@pytest.mark.parametrize("arguments", [("rollup",), ("cache",), ("jobs",), ("jobs", "dead")])
def test_help_of_groups_tells_what_their_commands_do_in_whole_sentences(arguments: tuple[str, ...]) -> None:
    shown = run_broker(*arguments, "--help").stdout
    commands = shown.partition("Commands:\n")[2]
    assert commands.endswith(".\n")
    assert "..." not in commands


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    output = tmp_path / "none" / "x.csv"
    ended = run_broker("explore", "flights", "-m", "flights", "--format", "csv", "-o", str(output))
    assert ended.returncode == Exit.FAILED
    assert ended.stderr == f"{output}.part: No such file or directory.\n"


def test_unknown_commands_and_options_are_usage_errors() -> None:
    assert run_broker("serv").returncode == Exit.USAGE
    assert run_broker("ping", "--adress", "x").returncode == Exit.USAGE
    assert "--address" in run_broker("ping", "--adress", "x").stderr
