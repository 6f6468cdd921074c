"""Files appear whole or not at all, whoever is killed, and what a dead process left is cleared away."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from broker.domain.query import Grain
from broker.domain.rollup import SegmentFile
from broker.rollups import mirror_files
from tests.support.mirror_child import segments_of
from tests.support.segments import BY_CARRIER, FakeSegments, status_of
from tests.unit.rollups.conftest import Opened

ROOT = Path(__file__).parents[3]
NOBODY = 2**22 + 1  # more than any process number


def killed_while(directory: Path, where: str) -> None:
    """A process hydrates the mirror and is killed at the third segment."""
    command = [sys.executable, "-m", "tests.support.mirror_child", str(directory), where]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"here\n"
        finally:
            child.kill()


def names(directory: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in directory.glob(f"*/{pattern}"))


@pytest.mark.parametrize("where", ["fetching", "writing"])
async def test_a_hydration_that_was_killed_is_gone_on_with(
    opened: Opened, store: FakeSegments, tmp_path: Path, where: str
) -> None:
    directory = tmp_path / "mirror"
    killed_while(directory, where)
    assert [name.split(".")[0] for name in names(directory, "*.arrow")] == ["1", "2"]
    assert len(names(directory, ".*.tmp")) == (where == "writing")
    segments = segments_of(store)
    mirror = await opened(store)
    assert names(directory, ".*.tmp") == []
    done = await mirror.hydrate([status_of(*segments)])
    assert (done.done, done.skipped) == (5, 0)
    assert sorted(store.fetched) == [3, 4, 5]
    for segment in segments:
        files = mirror.local(BY_CARRIER, segment)
        assert files is not None
        assert mirror_files.verified(files[0].path, segment.files[0]) is not None


def file_of(data: bytes) -> SegmentFile:
    return SegmentFile(Grain.DAY, 1, len(data), hashlib.sha256(data).hexdigest())


def test_many_writers_of_one_file_leave_one_file(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    path = tmp_path / "mirror" / "rollup" / "1.day.arrow"
    start = threading.Barrier(8)

    def write() -> None:
        start.wait()
        mirror_files.write(str(path), data, 5.0)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    (found,) = mirror_files.scan(tmp_path / "mirror")
    assert (found.path, found.used) == (str(path), 5.0)
    assert mirror_files.verified(str(path), file_of(data)) == mirror_files.stamp(str(path))


def test_a_use_is_no_change(tmp_path: Path) -> None:
    path = str(tmp_path / "1.day.arrow")
    made = mirror_files.write(path, b"data", 5.0)
    mirror_files.touch(path, 9.0)
    assert mirror_files.used_at(path) == 9.0
    assert mirror_files.stamp(path) == made
    mirror_files.touch(str(tmp_path / "gone"), 9.0)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, at: float) -> None:
        raise OSError("full")

    monkeypatch.setattr(mirror_files, "touch", full)
    with pytest.raises(OSError, match="full"):
        mirror_files.write(str(tmp_path / "1.day.arrow"), b"data", 5.0)
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    folder, empty = tmp_path / "rollup", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    for name in (f".{NOBODY}-1.tmp", ".nonsense.tmp", f".{os.getpid()}-1.tmp", "1.day.0.arrow"):
        (folder / name).write_bytes(b"")
    assert mirror_files.prepare(tmp_path, lambda pid: pid == os.getpid()) == 2
    assert sorted(entry.name for entry in folder.iterdir()) == [f".{os.getpid()}-1.tmp", "1.day.0.arrow"]
    assert not empty.exists()
