"""What leaves the mirror: versions that were replaced, and what was not used for longest when room is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.rollups.mirror_files import Found, remove, scan, touch, used_at


@dataclass(frozen=True, slots=True)
class Current:
    """The files that are current in the ``folders`` of some rollups; others in there were replaced."""

    folders: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Leaving:
    """Files that are to go: replaced ones, and others for want of space."""

    stale: tuple[str, ...] = ()
    evicted: tuple[str, ...] = ()


def survey(root: Path, used: Mapping[str, float]) -> list[Found]:
    """Every file there is, after telling other processes at which wall-clock times this one used some. It blocks."""
    for path, at in used.items():
        touch(path, at)
    return list(scan(root))


def choose(found: Sequence[Found], limit: int, idle_since: float, current: Current) -> Leaving:
    """What goes: stale files, then those used least recently until at most ``limit`` bytes are left.

    Nothing goes that was used after ``idle_since``, even if more than the limit stays. Processes that choose at the
    same time choose the same files.
    """
    idle = sorted((f for f in found if f.used <= idle_since), key=lambda file: (file.used, file.path))
    stale = tuple(file.path for file in idle if _is_stale(file, current))
    gone = frozenset(stale)
    total = sum(file.stamp.size for file in found if file.path not in gone)
    evicted: list[str] = []
    for file in idle:
        if total <= limit:
            break
        if file.path not in gone:
            evicted.append(file.path)
            total -= file.stamp.size
    return Leaving(stale, tuple(evicted))


def remove_idle(paths: Iterable[str], idle_since: float) -> frozenset[str]:
    """Deletes files unless a process has used them meanwhile; returns what is gone. It blocks."""
    gone = frozenset(path for path in paths if used_at(path) <= idle_since)
    for path in gone:
        remove(path)
    return gone


def _is_stale(file: Found, current: Current) -> bool:
    return Path(file.path).parent.name in current.folders and file.path not in current.paths
