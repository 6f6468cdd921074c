"""Whatever the pages for newcomers show is run: commands, Python, grpcurl (its bodies, by `buf curl`), Node."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from broker.cli.program import COMMANDS
from tests.support.cli import Demo, environment
from tests.support.server import ROOT

README = (ROOT / "README.md").read_text("utf-8")
GRPCURL = (ROOT / "clients/grpcurl.md").read_text("utf-8")
PLACE = "localhost:50051"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


FIRST = next(block for block in blocks(README, "sh") if "broker datasets flights" in block)
QUESTIONS = [line.partition("   #")[0] for line in FIRST.splitlines() if line.startswith("broker ")]
CURLS = [block for block in [*blocks(README, "sh"), *blocks(GRPCURL, "sh")] if block.startswith("grpcurl")]


def test_the_pages_name_only_commands_and_files_that_are_there() -> None:
    known = {name for section in COMMANDS.values() for name in section}
    own = ("overload", "rollups", "your-own-database", "when-not-to-use")
    for page in ("README.md", *(f"docs/{name}.md" for name in own)):
        text = (ROOT / page).read_text("utf-8")
        assert set(re.findall(r"`broker ([a-z][a-z-]*)", text)) <= known
        links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
        for link in links:
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page} points to {link}"


@pytest.mark.parametrize("line", QUESTIONS)
def test_first_questions(demo: Demo, tmp_path: Path, line: str) -> None:
    result = demo.broker(*shlex.split(line)[1:], cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_wrong_input_is_answered_as_shown(demo: Demo) -> None:
    (shown,) = blocks(README, "console")
    command, *expected = shown.splitlines()
    result = demo.broker(*shlex.split(command)[2:])
    assert result.stderr.splitlines()[: len(expected)] == expected


@pytest.mark.parametrize("block", blocks(README, "python"))
def test_python(demo: Demo, block: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", block.replace(PLACE, demo.address)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert any(kind in result.stdout for kind in ("LIVE", "HYBRID", "ROLLUP", "complete: True"))


@pytest.mark.parametrize("block", CURLS)
def test_grpcurl(demo: Demo, block: str) -> None:
    """`buf curl` takes the same bodies and finds the methods by reflection in the same way."""
    for line in block.strip().replace("}' localhost", "}' \\\nlocalhost").split("\ngrpcurl "):
        words = shlex.split(line.replace("\\\n", " "))
        if "list" in words or "describe" in words:
            continue  # what reflection serves to all the others
        body = words[words.index("-d") + 1] if "-d" in words else "{}"
        assert words[-2] == PLACE
        result = subprocess.run(
            [
                *(
                    str(Path(sys.executable).parent / "buf"),
                    "curl",
                    "--protocol",
                    "grpc",
                    "--http2-prior-knowledge",
                ),
                *("-d", body, f"http://{demo.address}/{words[-1]}"),
            ],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        if "fligths" in body:
            assert "did you mean 'flights'?" in result.stderr
        else:
            assert result.returncode == 0, result.stderr
            assert result.stdout == "" or json.loads(result.stdout.partition("\n}\n")[0] + "}")


if shutil.which("npm"):  # the example is for those who have Node

    @pytest.fixture(scope="module")
    def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A copy of the example beside the protos, installed as its page says."""
        copy = tmp_path_factory.mktemp("node")
        ignored = shutil.ignore_patterns("node_modules")
        shutil.copytree(ROOT / "clients/node", copy / "clients/node", ignore=ignored)
        shutil.copytree(ROOT / "protos", copy / "protos")
        subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=copy / "clients/node", check=True)
        return copy / "clients/node"

    @pytest.mark.parametrize(
        ("program", "said"), [("dashboard.js", "\nANSWER_KIND_"), ("explore.js", " rows, ANSWER")]
    )
    def test_node(demo: Demo, node: Path, program: str, said: str) -> None:
        command = ["node", program, demo.address]
        result = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=100, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        assert said in result.stdout

    def test_node_says_what_an_error_means(demo: Demo, node: Path) -> None:
        wrong = (node / "dashboard.js").read_text().replace("'carrier'", "'carier'")
        (node / "wrong.js").write_text(wrong)
        command = ["node", "wrong.js", demo.address]
        result = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=100, check=False)
        assert result.returncode == 1
        assert "INVALID_REQUEST" in result.stderr
        assert "did you mean 'carrier'?" in result.stderr
