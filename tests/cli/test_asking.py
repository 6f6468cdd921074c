"""Client commands against a running broker: what they print, where they write, how they end."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.support.cli import Demo, environment, run_broker
from tests.support.server import ROOT

KIND = "(live|hybrid|rollup|cache_fresh)"
"""Where an answer was read: the demo's worker may have built its rollups by then, or not."""
BY_ORIGIN = ("flights", "-m", "flights,dep_delay", "-b", "origin")


@pytest.fixture(scope="module")
def by_origin(demo: Demo) -> list[dict[str, object]]:
    result = demo.broker("query", *BY_ORIGIN, "--format", "json")
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_ping_tells_the_state_of_the_broker_and_of_a_service(demo: Demo) -> None:
    assert "SERVING in" in demo.broker("ping").stdout
    assert (
        "(median of 2)"
        in demo.broker("ping", "--count", "3", "--service", "querybroker.v1.JobService").stdout
    )
    assert demo.broker("ping", "--service", "no.such.Service").returncode == 4


def test_datasets_lists_them_and_shows_members(demo: Demo) -> None:
    assert "One row per flight" in demo.broker("datasets").stdout
    shown = demo.broker("datasets", "flights").stdout
    assert "approx_distinct" in shown
    assert "Default time." in shown
    assert "Not with every measure" in demo.broker("datasets", "planes").stdout


def test_a_table_is_for_people(demo: Demo, by_origin: list[dict[str, object]]) -> None:
    result = demo.broker("query", *BY_ORIGIN, "--order=-flights")
    assert result.returncode == 0
    most = max(by_origin, key=lambda row: int(str(row["flights"])))
    assert f"{most['origin']} " in result.stdout
    assert f"{most['flights']:,}" in result.stdout
    assert re.search(rf"^{KIND} · 3 rows · as of ", result.stdout, re.MULTILINE)
    assert "request " in result.stderr


def test_json_and_csv_are_for_programs(demo: Demo, by_origin: list[dict[str, object]]) -> None:
    result = demo.broker("query", *BY_ORIGIN, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["origin"], int(row["flights"]), float(row["dep_delay"])) for row in rows] == [
        (row["origin"], row["flights"], row["dep_delay"]) for row in by_origin
    ]
    assert re.search(rf"^{KIND} · 3 rows", result.stderr, re.MULTILINE)  # beside the data, not in it


def test_calculations_of_options_arrive(demo: Demo, by_origin: list[dict[str, object]]) -> None:
    options = ("--top", "1 origin by flights with other", "--share", "flights", "--format", "json")
    result = demo.broker("query", "flights", "-m", "flights", "-b", "origin", *options)
    top, other = sorted(
        (json.loads(line) for line in result.stdout.splitlines()), key=lambda r: r["origin__other"]
    )
    counts = sorted(int(str(row["flights"])) for row in by_origin)
    assert (top["flights"], other["flights"]) == (counts[-1], sum(counts[:-1]))
    assert top["flights__share"] + other["flights__share"] == pytest.approx(1)


def test_a_file_with_panels_is_one_call(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "board.yaml"
    file.write_text("""
        panels:
          - {id: good, dataset: flights, measures: flights, where: origin = JFK}
          - {id: bad, dataset: flights, measures: fligths}
    """)
    result = demo.broker("query", "-f", str(file), "--format", "json")
    assert result.returncode == 4
    assert [json.loads(line)["panel"] for line in result.stdout.splitlines()] == ["good"]
    assert "bad: INVALID_REQUEST" in result.stderr
    assert "did you mean 'flights'?" in result.stderr
    assert "2 panels in" in result.stderr


def test_a_question_may_come_from_standard_input(demo: Demo) -> None:
    asked = "{dataset: flights, measures: flights, policy: {max_staleness: 1m}}"
    result = demo.broker("explain", "-f", "-", stdin=asked)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"{KIND}, exact", result.stdout)
    assert "SELECT" in result.stdout  # anonymous callers on loopback may see statements


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["query"], 2, "There is no question"),
        (["query", "flights", "-w", "origin ="], 2, "where: expected a value"),
        (["query", "flights", "-m", "flights", "-f", "-"], 2, "not several of them"),
        (["query", "flights", "--deadline", "soon"], 2, "length of time"),
        (["query", "flights", "--deadline", "0ms"], 2, "no time at all"),
        (["query", "flights", "--format", "xml"], 2, "Invalid value"),
        (["explore", "flights", "-m", "flights", "-o", "x"], 2, "goes to the screen"),
        (["explore", "--sql", "SELECT 1"], 4, "SQL_DISABLED"),
        (["query", "fligths", "-m", "flights"], 4, "Did you mean 'flights'?"),
        (["query", "flights", "-m", "fligths", "-w", "carier = UA"], 4, "  filter.condition.member: "),
        (
            [
                "query",
                "flights",
                "-m",
                "flights",
                "-w",
                "flight_number = 4321",
                "--policy",
                "cache_mode=only",
            ],
            4,
            "POLICY_UNSATISFIABLE",
        ),
        (["query", "flights", "-m", "flights", "--api-key", "qb_wrong"], 5, "UNAUTHENTICATED"),
        (
            ["query", "flights", "-m", "flights", "--address", "127.0.0.1:1"],
            6,
            "nothing answers at 127.0.0.1:1",
        ),
        (["query", "flights", "-m", "flights", "--tls"], 6, "do not agree on TLS.\nLeave --tls out"),
        (
            ["query", "flights", "-m", "flights", "--address", "http://127.0.0.1:1"],
            2,
            "http://127.0.0.1:1 is no gRPC address. Write it as HOST:PORT",
        ),
        (["jobs", "get", "nope"], 4, "JOB_NOT_FOUND"),
        (["watch", "nope"], 4, "JOB_NOT_FOUND"),
    ],
)
def test_every_error_has_its_text_and_its_exit_code(
    demo: Demo, arguments: list[str], code: int, said: str
) -> None:
    result = demo.broker(*arguments)
    assert (result.returncode, said in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr


def test_an_exploration_goes_into_a_file_of_any_format(demo: Demo, tmp_path: Path) -> None:
    asked = ("flights", "-m", "flights,dep_delay", "-b", "carrier,dest")
    files = {name: tmp_path / f"rows.{name}" for name in ("arrow", "csv", "json")}
    for name, file in files.items():
        result = demo.broker("explore", *asked, "--format", name, "-o", str(file))
        assert result.returncode == 0, result.stderr
        assert not file.with_name(f"{file.name}.part").exists()
    frames = [
        pl.read_ipc(files["arrow"]),
        pl.read_csv(files["csv"], schema_overrides={"dep_delay": pl.Float64}),
        pl.read_ndjson(files["json"]),
    ]
    assert all(frame.height > 100 and frame.equals(frames[0]) for frame in frames)
    table = demo.broker("explore", *asked, "--rows", "3")
    assert f"… and {frames[0].height - 3:,} more rows" in table.stdout


def test_an_answer_without_rows_has_its_columns(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "none.arrow"
    asked = ("flights", "-m", "flights", "-b", "origin", "-w", "origin = nowhere")
    assert demo.broker("explore", *asked, "--format", "arrow", "-o", str(file)).returncode == 0
    assert pl.read_ipc(file).schema == {"origin": pl.String, "flights": pl.Int64}


def test_a_failed_exploration_leaves_no_file(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("from before")
    result = demo.broker("explore", "flights", "-m", "fligths", "--format", "csv", "-o", str(file))
    assert result.returncode == 4
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert file.read_text() == "from before"


def test_arrow_on_standard_output_is_a_stream(demo: Demo) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "broker", "explore", *BY_ORIGIN, "--format", "arrow"],
        env=environment(QUERYBROKER_ADDRESS=demo.address),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert pl.read_ipc_stream(result.stdout).height == 3


def test_wrong_usage_is_answered_with_what_was_probably_meant() -> None:
    result = run_broker("quere")
    assert result.returncode == 2
    assert "Did you mean 'query'?" in result.stderr
