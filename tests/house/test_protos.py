"""The gates on the contract bite: planted mistakes in a small contract are found, without a registry."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUF = Path(sys.prefix, "bin/buf")
CONTRACT = """\
// A contract of one message.
syntax = "proto3";

package querybroker.v1;

import "google/protobuf/timestamp.proto";
import "google/rpc/status.proto";

// A thing.
message Thing {
  // What it is called.
  string name = 1;
  // When it was made.
  google.protobuf.Timestamp create_time = 2;
  // Why it failed.
  google.rpc.Status error = 3;
}
"""


def image(folder: Path, contract: str) -> Path:
    """The descriptor image of `contract`, made the way scripts/check makes it."""
    file = folder / "protos/querybroker/v1/thing.proto"
    file.parent.mkdir(parents=True)
    file.write_text(contract)
    made = folder / "image.binpb"
    subprocess.run([ROOT / "scripts/gen", "--image", made, folder / "protos"], check=True)
    return made


def buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [BUF, *arguments, "--config", ROOT / "protos/buf.yaml"]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_sound_contract_passes(tmp_path: Path) -> None:
    sound = image(tmp_path, CONTRACT)
    assert buf("lint", sound).returncode == 0
    assert buf("breaking", sound, "--against", sound).returncode == 0


@pytest.mark.parametrize(
    ("was", "becomes", "finding"),
    [
        ("  // What it is called.\n", "", 'Field "name" should have a non-empty comment'),
        ("string name", "string theName", "lower_snake_case"),
        ("// A thing.\n", "", 'Message "Thing" should have a non-empty comment'),
    ],
)
def test_lint_finds(tmp_path: Path, was: str, becomes: str, finding: str) -> None:
    outcome = buf("lint", image(tmp_path, CONTRACT.replace(was, becomes)))
    assert outcome.returncode != 0
    assert finding in outcome.stdout


@pytest.mark.parametrize(
    ("was", "becomes", "finding"),
    [
        ("  string name = 1;\n", "", 'field "1" with name "name" on message "Thing" was deleted'),
        ("string name = 1", "int64 name = 1", 'changed type from "string" to "int64"'),
        ("string name = 1", "string title = 1", 'changed name from "name" to "title"'),
    ],
)
def test_breaking_finds(tmp_path: Path, was: str, becomes: str, finding: str) -> None:
    before = image(tmp_path / "before", CONTRACT)
    after = image(tmp_path / "after", CONTRACT.replace(was, becomes))
    outcome = buf("breaking", after, "--against", before)
    assert outcome.returncode != 0
    assert finding in outcome.stdout
