"""Segment files on disk: names, verification, atomic writing, and making room. All of it blocks: call it in threads.

Several processes of one host share a directory without talking to each other. A file's name holds the beginning of its
checksum, so whoever wrote it, the name is right or the file is broken; it appears whole, by a rename. Its modification
time says whether it is still the file that was verified, and its access time, which only the mirror sets, when some
process last used it. Nothing is synced: after a crash of the machine a file may be broken, and is found out by its
checksum when a process starts.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from broker.domain.fingerprint import fingerprint
from broker.domain.rollup import Rollup, Segment, SegmentFile

SUFFIX = ".arrow"
_TEMPORARY = ".tmp"
_LOCK = ".lock"
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
    size: int
    used: float


def file_path(root: Path, scope: str, rollup: Rollup, segment: Segment, file: SegmentFile) -> str:
    """Where a file lies. ``scope`` tells databases apart that share a directory."""
    name = f"{segment.id}.{file.grain.value}.{file.sha256[:16]}{SUFFIX}"
    return str(root / rollup_folder(scope, rollup) / name)


def rollup_folder(scope: str, rollup: Rollup) -> str:
    """Name of the folder of a rollup's files."""
    return fingerprint(scope, rollup.dataset, rollup.name)


def stamp(path: str) -> Stamp:
    """The file's stamp. Raises OSError."""
    found = os.stat(path)
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


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
        os.utime(path, ns=(int(at * 1e9), os.stat(path).st_mtime_ns))


def remove(path: str) -> None:
    """Deletes a file. Whoever has it open or mapped keeps it."""
    with suppress(OSError):
        os.unlink(path)


def scan(root: Path) -> Iterator[Found]:
    """Every file of the mirror."""
    for folder in _entries(root):
        if folder.is_dir(follow_symlinks=False):
            for entry in _entries(Path(folder.path)):
                with suppress(OSError):
                    if entry.name.endswith(SUFFIX):
                        status = entry.stat(follow_symlinks=False)
                        yield Found(entry.path, status.st_size, status.st_atime)


def sweep(root: Path, alive: Callable[[int], bool]) -> int:
    """Deletes what dead processes were writing, and folders that are empty; returns how many files that were."""
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
            os.rmdir(folder.path)
    return count


@contextmanager
def alone(root: Path) -> Iterator[bool]:
    """Holds the directory's lock for the time of the context; false when another process has it. Raises OSError."""
    with (root / _LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # it was deleted meanwhile
        return []
