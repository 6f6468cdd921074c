"""The temporary files of a process: where they are, and who removes them when it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from broker.runtime.scratch import LOCK, PREFIX, sweep

PROGRAM = """
import os, sys, tempfile
from multiprocessing import get_context
from broker.runtime.scratch import scratch

if __name__ == "__main__":
    folder = scratch()
    child = get_context("forkserver").Process(target=int)  # its fork server listens on a socket
    child.start()
    child.join()
    tempfile.NamedTemporaryFile(delete=False)
    print(folder, len(os.listdir(folder)), os.environ["TMPDIR"], flush=True)
    sys.stdin.read()
"""


def started(outside: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with temporary files, and where they are."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(outside)},
        text=True,
    )
    assert process.stdout is not None
    folder, files, variable = process.stdout.readline().split()
    assert (int(files), variable, Path(folder).parent) == (3, folder, outside), "its lock is there too"
    return process, Path(folder)


def test_the_next_start_removes_what_a_killed_process_has_left_and_nothing_else(home: Path) -> None:
    killed, left = started(home)
    others = home / "other", home / f"{PREFIX}file", home / f"{PREFIX}link", home / f"{PREFIX}results"
    others[0].mkdir()
    (others[0] / LOCK).touch()
    others[1].touch()
    others[2].symlink_to(others[0])
    others[3].mkdir()
    (others[3] / "part").touch()
    killed.kill()
    killed.communicate()
    assert left.exists()
    lives, kept = started(home)
    assert set(home.iterdir()) == {kept, *others}
    assert sweep(home) == [], "what is held is left alone"
    _, errors = lives.communicate("")
    assert (lives.returncode, errors) == (0, "")
    assert set(home.iterdir()) == set(others), "in good order nothing is left"
    assert list(others[3].iterdir()) == [others[3] / "part"], (
        "a folder that only has such a name is somebody's own"
    )


def test_where_names_would_be_too_long_for_sockets_all_stays_as_it_is(home: Path) -> None:
    far = home / ("far" * 20)
    far.mkdir()
    say = "from broker.runtime.scratch import scratch; print(scratch())"
    found = subprocess.run(
        [sys.executable, "-c", say],
        check=True,
        env={**os.environ, "TMPDIR": str(far)},
        capture_output=True,
        text=True,
    )
    assert (found.stdout.strip(), list(far.iterdir())) == (str(far), [])
