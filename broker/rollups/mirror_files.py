"""Segment files on disk: names, verification, atomic writing, and making room. All of it blocks: call it in threads.

Several processes of one host share a directory without talking to each other. A file's name holds the beginning of its
checksum, so whoever wrote it, the name is right or the file is broken; it appears whole, by a rename. Its modification
time says whether it is still the file that was verified, and its access time, which only the mirror sets, when some
process last used it. Nothing is synced: after a crash of the machine a file may be broken, and is found out by its
checksum when a process starts.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.domain.fingerprint import fingerprint
from broker.domain.rollup import Rollup, Segment, SegmentFile

SUFFIX = ".arrow"
_TEMPORARY = ".tmp"
_CHUNK = 1 << 20
_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a file from one that was put in its place, or was written to."""

    inode: int
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the mirror: ``used`` is the wall-clock time in seconds at which a process last said that it uses it."""

    path: str
    stamp: Stamp
    used: float


def file_name(segment: Segment, file: SegmentFile) -> str:
    """Name of a file in its rollup's folder."""
    return f"{segment.id}.{file.grain.value}.{file.sha256[:16]}{SUFFIX}"


def rollup_folder(scope: str, rollup: Rollup) -> str:
    """Name of the folder of a rollup's files. ``scope`` tells databases apart that share a directory."""
    return fingerprint(scope, rollup.dataset, rollup.name)


def stamp(path: str) -> Stamp:
    """The file's stamp. Raises OSError."""
    return _stamp(Path(path).stat())


def verified(path: str, file: SegmentFile) -> Stamp | None:
    """The stamp of the file if its bytes are the right ones, None if there is no such file.

    Raises:
        ValueError: Its bytes are others.
        OSError: It cannot be read.
    """
    try:
        before = stamp(path)
        if before.size != file.byte_count:
            raise ValueError(f"{before.size} bytes instead of {file.byte_count}")
        digest = hashlib.sha256()
        with Path(path).open("rb", buffering=0) as opened:
            while data := opened.read(_CHUNK):
                digest.update(data)
        if digest.hexdigest() != file.sha256:
            raise ValueError("its checksum differs")
        if stamp(path) != before:
            raise ValueError("it was changed while it was read")
    except FileNotFoundError:
        return None
    return before


def right(data: bytes, file: SegmentFile) -> bool:
    """Whether these are the bytes of the file."""
    return len(data) == file.byte_count and hashlib.sha256(data).hexdigest() == file.sha256


def write(path: str, data: bytes, at: float) -> Stamp:
    """Makes the file appear whole, in place of one that may be there, as used ``at``. Raises OSError."""
    target = Path(path)
    for _ in range(_ATTEMPTS):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}")
        try:
            with temporary.open("xb", buffering=0) as opened:
                view = memoryview(data)
                while view:
                    view = view[opened.write(view) :]
            touch(str(temporary), at)
            made = stamp(str(temporary))
            temporary.rename(target)
        except FileNotFoundError:
            continue  # another process took the empty folder, or this file for one that a dead process left
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        return made
    raise FileNotFoundError(f"{target.parent} keeps being deleted")


def touch(path: str, at: float) -> None:
    """Says that the file was used ``at``; nothing happens when it is gone."""
    with suppress(OSError):
        os.utime(path, ns=(int(at * 1e9), Path(path).stat().st_mtime_ns))


def used_at(path: str) -> float:
    """When a process last said that it uses the file, on the wall clock; long ago if there is none."""
    try:
        return Path(path).stat().st_atime
    except OSError:
        return 0.0


def remove(path: str) -> None:
    """Deletes a file. Whoever has it open or mapped keeps it."""
    with suppress(OSError):
        Path(path).unlink()


def scan(root: Path) -> Iterator[Found]:
    """Every file of the mirror."""
    for folder in _entries(root):
        if folder.is_dir(follow_symlinks=False):
            for entry in _entries(Path(folder.path)):
                with suppress(OSError):
                    if entry.name.endswith(SUFFIX):
                        status = entry.stat(follow_symlinks=False)
                        yield Found(entry.path, _stamp(status), status.st_atime)


def prepare(root: Path, alive: Callable[[int], bool]) -> int:
    """Makes the directory, and sees whether it can be written to. Raises OSError.

    Deletes what dead processes were writing, and folders that are empty; returns how many files that were.
    """
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):
        pass
    count = 0
    for folder in _entries(root):
        if not folder.is_dir(follow_symlinks=False):
            continue
        for entry in _entries(Path(folder.path)):
            if entry.name.endswith(_TEMPORARY):
                number = entry.name[1:].partition("-")[0]
                if not (number.isdecimal() and alive(int(number))):
                    remove(entry.path)
                    count += 1
        with suppress(OSError):  # not empty
            Path(folder.path).rmdir()
    return count


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # it was deleted meanwhile
        return []
